#!/usr/bin/env bash
# output.sh TOOLS SOURCE BUILD: where output may not go, and that it appears whole or not at all.
source "$(dirname "$0")/lib.sh"
sample

# A terminal gets no binary data. python3's pty is the terminal.
for tool in kvcat kvdecode 'kvencode --lossless'; do
  # shellcheck disable=SC2086
  python3 -c 'import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))' $tool sample.kv </dev/null >err 2>&1
  judge 2 'not written to a terminal' $? "$tool to a terminal"
done

# -o does not overwrite, unless told to.
echo mine >taken.kv
for tool in kvcat kvdecode 'kvencode --lossless'; do
  # shellcheck disable=SC2086
  expect 4 'taken.kv: exists.*-f' $tool sample.kv -o taken.kv
  [ "$(cat taken.kv)" = mine ] || fail "$tool overwrote"
done
expect 0 '' kvcat --no-history sample.kv -f -o taken.kv
expect 0 '' kvinfo --check taken.kv
expect 0 '' kvcat --no-history taken.kv -f -o taken.kv # onto its own input
expect 0 '' kvinfo --check taken.kv

# Refused input leaves nothing behind, neither under the name nor beside it.
head -c 3000000 sample.kv >short.kv
mkdir clean
expect 3 'short.kv' kvcat short.kv -o clean/a.kv
expect 3 'short.kv' kvcat sample.kv short.kv -o clean/a.kv
expect 3 '-: ' kvencode --lossless -o clean/a.kv <short.kv
expect 3 '-: ' kvdecode -o clean/a.kv <short.kv
only clean

# No folder, and one that takes no files.
expect 4 'nowhere/a.kv: No such file' kvcat sample.kv -o nowhere/a.kv
mkdir sealed
chmod 555 sealed
if [ "$(id -u)" != 0 ]; then
  expect 4 'sealed/a.kv: Permission denied' kvcat sample.kv -o sealed/a.kv
elif mount -t tmpfs -o ro none sealed 2>/dev/null; then
  mounted+=("$work/sealed")
  expect 4 'sealed/a.kv: Read-only file system' kvcat sample.kv -o sealed/a.kv
else
  echo 'not tested: a read-only folder (root may not mount here)' >&2
fi

# Full: a device, a file system, a limit on files.
for tool in kvcat kvdecode 'kvencode --lossless' kvinfo 'kvinfo --hex' 'kvinfo --json'; do
  # shellcheck disable=SC2086
  $tool sample.kv 2>err >/dev/full
  judge 4 'No space left|could not be written' $? "$tool >/dev/full"
done
kvinfo --help >/dev/full 2>err
judge 4 'could not be written' $? "kvinfo --help >/dev/full"
mkdir small
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=1m none small 2>/dev/null; then
  mounted+=("$work/small")
  expect 4 'small/a.kv: No space left' kvcat sample.kv -o small/a.kv
  only small
  kvcat sample.kv >small/b.kv 2>err
  judge 4 'No space left' $? "kvcat >small/b.kv"
  kvinfo small/b.kv >out 2>err # what the shell keeps is seen to be cut short
  judge 3 'small/b.kv' $? "kvinfo small/b.kv"
else
  echo 'not tested: a full file system (no mount)' >&2
fi
(
  trap '' XFSZ
  ulimit -f 1000
  kvcat sample.kv -o clean/a.kv
) 2>err
judge 4 'a.kv: File too large' $? "kvcat under ulimit -f"
only clean
done_testing
