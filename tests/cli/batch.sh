#!/usr/bin/env bash
# A batch of 50 documents that is killed again and again: every file is whole at any time, and the
# last run completes it.
source "$(dirname "$0")/lib.sh"
has_model || skip "no model"
for i in $(seq 50); do printf '{"id":"doc/%d","text":"Document %d tells of %d things."}\n' "$i" "$i" $((i * 7)); done >docs.jsonl
kills=0
for attempt in $(seq 12); do
  kvprefill -m smollm2 --jsonl docs.jsonl --out-dir caches -q 2>/dev/null &
  batch=$!
  sleep "0.$((RANDOM % 6 + 3))"
  if kill -KILL $batch 2>/dev/null; then kills=$((kills + 1)); fi
  wait $batch 2>/dev/null || true
  for file in caches/*; do
    [ -e "$file" ] || continue
    kvinfo --check -q "$file" || fail "attempt $attempt left $file"
  done
done
[ $kills -gt 0 ] || fail 'nothing was killed'
kvprefill -m smollm2 --jsonl docs.jsonl --out-dir caches 2>err
files=(caches/*)
[ ${#files[@]} = 50 ] || fail "${#files[@]} files"
[ -e 'caches/doc%2F7.kv' ] || fail 'the name of doc/7'
kvprefill -m smollm2 --jsonl docs.jsonl --out-dir caches 2>err
says '0 written, 50 there already'
# A damaged file is made again, another text is refused.
printf x | dd of='caches/doc%2F7.kv' bs=1 seek=5000 conv=notrunc 2>/dev/null
kvprefill -m smollm2 --jsonl docs.jsonl --out-dir caches 2>err
says '1 written, 49 there already'
sed -i 's/Document 3 /Another /' docs.jsonl
expect 3 kvprefill -m smollm2 --jsonl docs.jsonl --out-dir caches
says 'doc%2F3.kv'
# Shards part the batch.
kvprefill -m smollm2 --jsonl docs.jsonl --out-dir shards --shard 1/2 -q
[ "$(find shards -name '*.kv' | wc -l)" = 25 ] || fail 'a shard'
