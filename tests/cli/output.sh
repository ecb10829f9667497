#!/usr/bin/env bash
# Every tool, and every way in which output can go wrong.
source "$(dirname "$0")/lib.sh"
report=$data/report.kv
tools_that_write=(kvcat kvdecode 'kvencode --lossless')
mkdir clean sealed small
unmount() { umount -l sealed small 2>/dev/null || true; }
trap 'unmount; rm -rf "$work"' EXIT

# A terminal gets no binary data; python3's pty is the terminal.
for tool in "${tools_that_write[@]}"; do
  status=0
  # shellcheck disable=SC2086
  python3 -c 'import os, pty, subprocess, sys
run = subprocess.run(sys.argv[1:], stdout=pty.openpty()[1])
sys.exit(run.returncode)' $tool "$report" 2>err || status=$?
  judge $status 2 'not written to a terminal' "$tool to a terminal"
done

# -o does not overwrite unless told to; then also its own input.
echo mine >taken.kv
for tool in "${tools_that_write[@]}"; do
  # shellcheck disable=SC2086
  expect 4 $tool "$report" -o taken.kv
  says 'taken.kv: exists; give -f'
  [ "$(cat taken.kv)" = mine ] || fail "$tool overwrote"
done
for _ in 1 2; do
  expect 0 kvcat --no-history "$report" -f -o taken.kv
  expect 0 kvinfo --check taken.kv
  report=taken.kv
done

# A folder that takes no files.
chmod 555 sealed
if [ "$(id -u)" != 0 ]; then
  expect 4 kvcat taken.kv -o sealed/a.kv
  says 'create sealed/a.kv: Permission denied'
elif mount -t tmpfs -o ro none sealed 2>/dev/null; then
  expect 4 kvcat taken.kv -o sealed/a.kv
  says 'create sealed/a.kv: Read-only file system'
else
  echo 'not tested: a read-only folder, which root may not mount here'
fi

# Full: a device, a file system, a limit on files.
for tool in "${tools_that_write[@]}" kvinfo 'kvinfo --hex' 'kvinfo --json' 'kvinfo --help'; do
  status=0
  # shellcheck disable=SC2086
  $tool taken.kv >/dev/full 2>err || status=$?
  judge $status 4 'write -: ' "$tool >/dev/full"
done
big 1
if mount -t tmpfs -o size=1m none small 2>/dev/null; then
  expect 4 kvcat big.kv -o small/a.kv
  says 'small/a.kv: No space left on device'
  empty_folder small
  status=0
  kvcat big.kv >small/b.kv 2>err || status=$?
  judge $status 4 'write -: No space left on device' 'kvcat into a full file system'
  expect 3 kvinfo small/b.kv
else
  echo 'not tested: a full file system, which may not be mounted here'
fi
status=0
(trap '' XFSZ; ulimit -f 1000; kvcat big.kv -o clean/a.kv) 2>err || status=$?
judge $status 4 'clean/a.kv: File too large' 'kvcat under ulimit -f'
empty_folder clean
