#!/usr/bin/env bash
# pipes.sh TOOLS SOURCE BUILD: who writes into a closed pipe dies of SIGPIPE, silently; who reads
# from a writer that died says that the input is cut short.
source "$(dirname "$0")/lib.sh"
sample
big

for tool in kvcat kvdecode 'kvencode --lossless' 'kvinfo --hex'; do
  # shellcheck disable=SC2086
  $tool big.kv 2>err | head -c 100 >/dev/null
  status=${PIPESTATUS[0]}
  [ "$status" = 141 ] || fail "$tool into a closed pipe: status $status instead of 141"
  [ ! -s err ] || fail "$tool into a closed pipe says: $(cat err)"
done

for tool in kvinfo kvcat kvdecode 'kvencode --lossless' 'kvcat --join'; do
  mkdir clean
  for size in 0 7 16 40 1000 4000000 8389000; do
    output=
    [ "$tool" = kvinfo ] || output='-o clean/a.kv'
    # shellcheck disable=SC2086
    head -c $size sample.kv | $tool $output >out 2>err
    judge 3 '-: ' $? "$tool of $size bytes"
    only clean
  done
  rmdir clean
done

# A writer that is killed.
mkfifo fifo
kvcat big.kv >fifo &
writer=$!
kvinfo fifo >out 2>err &
reader=$!
kill -STOP $reader
sleep 0.2
kill -KILL $writer
kill -CONT $reader
wait $reader
judge 3 'fifo: .*truncated|fifo: .*cut' $? "kvinfo behind a killed writer"
wait $writer 2>/dev/null

# As long as the others in a pipe do.
expect 0 '' bash -o pipefail -c \
  'cat sample.kv | kvencode --lossless --no-history | kvdecode --no-history | kvcat --no-history >x.kv'
kvcat --no-history sample.kv >y.kv
same x.kv y.kv
cat x.kv y.kv | kvinfo --check >out 2>err || fail "two members in a pipe: $(cat err)"
grep -q '2 members' out || fail "two members in a pipe: $(cat out)"
done_testing
