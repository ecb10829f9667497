#!/usr/bin/env bash
# One tokstream-send with 150 streams and 150 receivers, of which 5 % of the packets are lost both
# ways: every byte of each arrives. bench/tokstream_load.sh has the times.
source "$(dirname "$0")/lib.sh"
load=$tools/../tests/tokstream_load
[ -x "$load" ] || skip 'tokstream_load is not built'
head -c 32 /dev/urandom >key
mkfifo tokens
tokstream-send --jsonl -n 150 -k key --stats --listen 127.0.0.1:0 <tokens 2>send.err & send=$!
exec 3>tokens
for _ in $(seq 1000); do
  port=$(sed -nE 's/.*listening on .*:([0-9]+)$/\1/p' send.err)
  [ -z "$port" ] || break
  sleep 0.02
done
"$load" "$port" 150 20 3 0.05 key >&3 2>load.err 3>&- & receivers=$!
exec 3>&-
wait "$receivers" || fail "receivers: $(<load.err)"
wait "$send" || fail "sender: $(<send.err)"
grep -q '"streams":150,"tokens":9000,' load.err || fail "$(<load.err)"
# A token and an end a line; each stream has gone once.
grep -q '"tokens":9150,"text_bytes":45000,"delivered":150,"lost":0,' send.err || fail "$(<send.err)"
