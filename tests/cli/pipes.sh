#!/usr/bin/env bash
# Who writes into a closed pipe dies of SIGPIPE without a word; who reads from a writer that died
# says that its input is cut short, and leaves no output.
source "$(dirname "$0")/lib.sh"
big 4
mkdir clean

for tool in kvcat kvdecode 'kvencode --lossless' 'kvinfo --hex'; do
  set +e +o pipefail
  # shellcheck disable=SC2086
  $tool big.kv 2>err | head -c 100 >/dev/null
  status=${PIPESTATUS[0]}
  set -e -o pipefail
  # --hex may be through before head is.
  [ "$status" = 141 ] || [[ $tool == *hex && $status = 0 ]] || fail "$tool: status $status, not 141"
  [ ! -s err ] || fail "$tool into a closed pipe says: $(<err)"
done

size=$(stat -c %s "$data/report.kv")
for tool in kvinfo kvcat kvdecode 'kvencode --lossless' 'kvcat --join'; do
  output=(-o clean/a.kv)
  [ "$tool" = kvinfo ] && output=()
  for bytes in 7 16 40 1000 $((size / 2)) $((size - 1)); do
    head -c "$bytes" "$data/report.kv" >part
    status=0
    # shellcheck disable=SC2002,SC2086
    cat part | $tool "${output[@]}" >out 2>err || status=$?
    judge $status 3 'truncated' "$tool of the first $bytes bytes"
    empty_folder clean
  done
done

# A named pipe is opened once: its writer, who waits for a reader, is not cut off.
mkfifo fifo
kvcat --tokens :3 "$data/report.kv" >head.kv
kvcat --tokens 3: "$data/report.kv" >tail.kv
for reader in 'kvinfo fifo' 'kvcat fifo' 'kvcat --join fifo tail.kv'; do
  cat head.kv >fifo &
  # shellcheck disable=SC2086
  expect 0 timeout 20 $reader
  wait $! || fail "the writer before $reader ended with $?"
done

# Parts in a pipe keep their history; a file without an index is read through.
# shellcheck disable=SC2002
cat head.kv tail.kv | kvcat --join | kvinfo --json | grep -qF '"--tokens",":3"' || fail 'history'
expect 3 kvcat --join "$tests/golden/v1/no_index.kv" head.kv
says 'two models'

# A writer that is killed in the middle.
status=0
bash -c 'ulimit -c 0; head -c 1000000 big.kv; kill -KILL $$' | kvdecode -o clean/a.kv 2>err || status=$?
judge $status 3 truncated 'kvdecode behind a killed writer'
empty_folder clean

# The same bytes through any number of pipes.
# shellcheck disable=SC2002
cat "$data/report.kv" | kvencode --lossless --no-history | kvdecode --no-history |
  kvcat --no-history | cmp - <(kvcat --no-history "$data/report.kv")
cat "$data/report.kv" "$data/report.kvz" | kvinfo --check | grep -q '2 members' || fail 'two members'
