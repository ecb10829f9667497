#!/usr/bin/env bash
# killed.sh TOOLS SOURCE BUILD: a tool that is killed at any moment leaves no file, or a whole one.
source "$(dirname "$0")/lib.sh"
big
mkdir outputs
killed=0
for round in $(seq 30); do
  signal=KILL
  [ $((round % 3)) = 0 ] && signal=TERM
  force=()
  if [ $((round % 2)) = 0 ]; then force=(-f); else rm -f outputs/a.kv; fi
  kvcat big.kv -o outputs/a.kv "${force[@]}" 2>err &
  process=$!
  sleep "0.0$((RANDOM % 10))$((RANDOM % 10))"
  kill -$signal $process 2>/dev/null && killed=$((killed + 1))
  wait $process 2>/dev/null
  names=$(ls -A outputs)
  [ -z "$names" ] || [ "$names" = a.kv ] || fail "round $round ($signal) leaves '$names'"
  if [ -e outputs/a.kv ]; then
    kvinfo --check --quiet outputs/a.kv || fail "round $round leaves half a file"
  fi
done
[ $killed -ge 5 ] || fail "only $killed of 30 runs were killed; the test proves nothing"
expect 0 '' kvcat big.kv -f -o outputs/a.kv
kvinfo --check --quiet outputs/a.kv || fail "the last run leaves half a file"

# A mapped file that is cut while it is read: the reader has one tile in the pipe, the next ones go.
for tool in kvcat kvdecode; do
  cp big.kv cut.kv
  mkfifo fifo
  "$tool" cut.kv >fifo 2>err &
  process=$!
  exec 3<fifo
  head -c 100 <&3 >/dev/null
  truncate -s 1000 cut.kv
  cat <&3 >/dev/null
  exec 3<&-
  wait $process
  judge 3 'cut short by another program' $? "$tool of a file that shrinks"
  rm fifo
done
# Changed in place, size and all else as before: the hashes see it.
cp big.kv cut.kv
mkfifo fifo
kvcat cut.kv >fifo 2>err &
process=$!
exec 3<fifo
head -c 100 <&3 >/dev/null
printf 'XXXXXXXX' | dd of=cut.kv bs=1 seek=$((100 << 20)) conv=notrunc 2>/dev/null
cat <&3 >/dev/null
exec 3<&-
wait $process
judge 3 'cut.kv: .*checksum|cut.kv: .*hash' $? "kvcat of a file that changes"
done_testing
