#!/usr/bin/env bash
# Outputs appear whole or not at all.
source "$(dirname "$0")/lib.sh"
kvcat "$data/report.kv" -o new.kv
expect 4 kvcat "$data/report.kvz" -o new.kv
says 'exists; give -f'
cmp <(kvcat --no-history new.kv) <(kvcat --no-history "$data/report.kv")
kvcat -f --no-history "$data/report.kvz" -o new.kv
cmp new.kv "$data/report.kvz"
rm -f out err

# Bad input: nothing under the final name, nothing beside it.
head -c 3000 "$data/report.kv" >cut.kv
expect 3 kvencode --lossless cut.kv -o coded.kvz
rm out err
only cut.kv new.kv

# A folder that may not be written (root may, so not as root).
mkdir closed
chmod 500 closed
if [ "$(id -u)" != 0 ]; then expect 4 kvcat "$data/report.kv" -o closed/x.kv; fi
expect 4 kvcat "$data/report.kv" -o no-such-folder/x.kv
says 'no-such-folder/x.kv'

# Full disks.
status=0
kvcat "$data/report.kv" >/dev/full 2>err || status=$?
[ $status = 4 ] || fail "full stdout: $status"
says 'No space left on device'
status=0
kvinfo "$data/report.kv" >/dev/full 2>err || status=$?
[ $status = 4 ] || fail "full stdout of a text: $status"
mkdir small
if mount -t tmpfs -o size=64k tmpfs small 2>/dev/null; then
  dd if=/dev/zero of=small/filler bs=1k count=48 2>/dev/null
  expect 4 kvcat "$data/report.kv" "$data/report.kv" "$data/report.kv" -o small/x.kv
  umount_later() { umount small; }
  [ "$(ls small)" = filler ] || { umount_later; fail 'a partial file on a full disk'; }
  umount_later
else
  echo 'note: no tmpfs may be mounted here'
fi

# Pipes that close early, on either side.
set +o pipefail
kvcat "$data/report.kv" "$data/report.kv" | true
[ "${PIPESTATUS[0]}" = 141 ] || [ "${PIPESTATUS[0]}" = 0 ] || fail 'closed reader'
set -o pipefail
status=0
head -c 3000 "$data/report.kv" | kvdecode >part.kv 2>err || status=$?
[ $status = 3 ] || fail "closed writer: $status"
says truncated

# A terminal gets no binary data.
if command -v python3 >/dev/null; then
  python3 - "$data/report.kv" <<'PYTHON' || fail 'binary data went to a terminal'
import os, pty, subprocess, sys
master, slave = pty.openpty()
run = subprocess.run(["kvcat", sys.argv[1]], stdout=slave, stderr=subprocess.PIPE)
sys.exit(run.returncode != 2 or b"terminal" not in run.stderr)
PYTHON
fi

# Signals while writing: nothing is left.
mkdir killed
for signal in TERM INT KILL; do
  mkfifo slow
  (cd killed && exec kvcat "../slow" -o x.kv 2>/dev/null) &
  writer=$!
  exec 3>slow
  head -c 4000 "$data/report.kv" >&3
  sleep 0.1
  kill -$signal $writer
  exec 3>&-
  wait $writer 2>/dev/null || true
  rm slow
  [ -z "$(ls -A killed)" ] || fail "left after SIG$signal: $(ls -A killed)"
done

# A file that is cut while it is mapped.
if command -v python3 >/dev/null; then
  python3 - "$data/report.kv" <<'PYTHON' || fail 'a file that was cut while it was read'
import os, shutil, subprocess, sys, time
for _ in range(3):
    shutil.copy(sys.argv[1], "cut.kv")
    many = ["cut.kv"] * 200
    run = subprocess.Popen(["kvcat", *many, "-o", "whole.kv", "-f"], stderr=subprocess.PIPE)
    time.sleep(0.02)
    os.truncate("cut.kv", 1000)
    error = run.communicate()[1].decode()
    # Either it was done before, or it says so in one line.
    if run.returncode not in (0, 3) or run.returncode == 3 and error.count("\n") != 1:
        sys.exit(f"{run.returncode} {error}")
    if run.returncode == 3 and os.path.exists("whole.kv"):
        sys.exit("a partial file")
    if os.path.exists("whole.kv"):
        os.remove("whole.kv")
PYTHON
fi
