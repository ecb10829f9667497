#!/usr/bin/env bash
# A tool that is killed at any moment leaves no file or a whole one, and nothing beside it; one whose
# input changes under it says so.
source "$(dirname "$0")/lib.sh"
big 4
mkdir outputs
killed=0
for round in $(seq 30); do
  signal=KILL force=(-f)
  [ $((round % 3)) = 0 ] && signal=TERM
  [ $((round % 2)) = 0 ] && force=() && rm -f outputs/a.kv
  kvcat big.kv -o outputs/a.kv "${force[@]}" &
  process=$!
  sleep "0.0$((RANDOM % 10))$((RANDOM % 10))"
  kill -$signal $process 2>/dev/null && killed=$((killed + 1))
  wait $process 2>/dev/null || true
  names=$(ls -A outputs)
  [ -z "$names" ] || [ "$names" = a.kv ] || fail "round $round, SIG$signal: left $names"
  [ -z "$names" ] || kvinfo --check -q outputs/a.kv || fail "round $round, SIG$signal: half a file"
done 2>log
[ $killed -ge 5 ] || fail "only $killed of 30 runs were killed, which proves nothing"
expect 0 kvcat big.kv -f -o outputs/a.kv
expect 0 kvinfo --check -q outputs/a.kv

# changing COMMAND...: runs it into a pipe, changes the input once the first bytes came, reads the
# rest; the message is in ./err.
mkfifo fifo
changing() {
  local change=$1
  shift
  cp big.kv changed.kv
  "$@" >fifo 2>err &
  local process=$! status=0
  exec 3<fifo
  head -c 100 <&3 >/dev/null
  $change
  cat <&3 >/dev/null
  exec 3<&-
  wait $process || status=$?
  [ $status = 3 ] || fail "$change: $*: status $status, not 3: $(<err)"
  [ "$(wc -l <err)" = 1 ] || fail "$change: $*: not one line: $(<err)"
  [[ $(<err) == "$1: "* ]] || fail "$change: $*: $(<err)"
}
shrink() { truncate -s 1000 changed.kv; }
# Size and name as before: the hashes see it.
overwrite() { dd if=/dev/zero of=changed.kv bs=1M seek=100 count=1 conv=notrunc 2>/dev/null; }
for change in shrink overwrite; do
  changing $change kvcat changed.kv                # reads
  changing $change kvcat --tokens 0:8192 changed.kv  # maps
  changing $change kvdecode changed.kv
  changing $change kvencode --lossless changed.kv
done
