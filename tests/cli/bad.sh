#!/usr/bin/env bash
# Every damaged file through the tools: exit 3, one line, no output, little memory.
source "$(dirname "$0")/lib.sh"
mkdir output
count=0
for bad in "$tests"/golden-bad/*.kv; do
  count=$((count + 1))
  for command in 'kvinfo --check' 'kvcat -o output/x.kv' 'kvencode --lossless -o output/x.kv' \
    'kvdecode -o output/x.kv'; do
    # shellcheck disable=SC2086
    expect 3 $command "$bad"
  done
  [ -z "$(ls -A output)" ] || fail "$bad left $(ls -A output)"
done
[ $count -gt 10 ] || fail "only $count bad files"
if [ -x /usr/bin/time ]; then
  for bad in "$tests"/golden-bad/*.kv; do
    /usr/bin/time -f %M -o memory kvinfo --check "$bad" >/dev/null 2>&1 || true
    [ "$(tail -n 1 memory)" -lt 65536 ] || fail "$bad: $(tail -n 1 memory) KiB"
  done
fi
