#!/usr/bin/env bash
# Caches in use: the same text with and without one, in each form and by each way.
source "$(dirname "$0")/lib.sh"
has_model || skip "no model"
question='Question: when was the lighthouse completed? Answer:'
answer() { kvgen -m smollm2 --compute f32 -n 24 -q "$@" </dev/null; }
text=$data/report.txt
kvprefill -m smollm2 --compute f32 "$text" -o f32.kv
{ cat "$text"; printf %s "$question"; } >whole.txt
# The ids of text and question must not merge into one another for the answers to be the same.
answer --prompt-file whole.txt >without
answer f32.kv "$question" >with
cmp without with || fail "from a cache: $(cat with) but without: $(cat without)"
kvencode --lossless f32.kv | kvgen -m smollm2 --compute f32 -n 24 -q "$question" | cmp - with

# A prefix, then the rest, is the whole.
head -n 3 "$text" >first.txt
tail -n +4 "$text" >rest.txt
kvprefill -m smollm2 --compute f32 first.txt -o first.kv
kvprefill -m smollm2 --compute f32 --prefix first.kv rest.txt -o both.kv
answer both.kv "$question" | cmp - with
kvprefill -m smollm2 --compute f32 --prefix first.kv --only-new rest.txt | kvcat --join first.kv - |
  kvgen -m smollm2 --compute f32 -n 24 -q "$question" | cmp - with

# E at a layer's input, with and without a prefix.
kvprefill -m smollm2 --hidden 0,8 "$text" -o hidden.kv
kvinfo hidden.kv | grep -q 'layers 0,8 of width 576' || fail 'no E'
kvprefill -m smollm2 --hidden 8 first.txt -o first8.kv
kvprefill -m smollm2 --hidden 8 --prefix first8.kv rest.txt | kvinfo | grep -q 'layers 8'
expect 3 kvprefill -m smollm2 --hidden 8 --prefix first.kv rest.txt

# Every dtype can be answered from.
for dtype in f16 bf16 fp8_e4m3 fp8_e5m2; do
  kvprefill -m smollm2 --dtype $dtype "$text" | kvgen -m smollm2 -n 2 -q "$question" >/dev/null
done

# Damage found by one of the threads that read is what is said, whatever the others were about to do.
cp f32.kv damaged.kv
printf '\xff\xfe\xfd' | dd of=damaged.kv bs=1 seek=$(($(stat -c %s f32.kv) / 2)) conv=notrunc status=none
for threads in 1 2 4; do
  expect 3 kvgen -m smollm2 --threads $threads damaged.kv x
  says 'payload checksum mismatch'
done
# Behind the last layer too, although the question runs through those before it meanwhile: nothing is
# answered before the whole stream was found good, from a file through its index or from a pipe.
head -c -200 f32.kv >cut.kv
cat f32.kv f32.kv >twice.kv
for bad in cut twice; do
  expect 3 kvgen -m smollm2 $bad.kv 'one two three'
  [ ! -s out ] || fail "an answer from $bad.kv"
  for _ in 1 2 3; do
    status=0
    cat $bad.kv | kvgen -m smollm2 'one two three' >piped 2>/dev/null || status=$?
    if [ $status != 3 ] || [ -s piped ]; then fail "$bad.kv through a pipe: status $status"; fi
  done
done

# Scores, logits, traces, stops, seeds.
printf ' 1874' >truth
kvgen -m smollm2 --score truth --logits logits.npy f32.kv "$question" </dev/null >score
grep -q '"tokens":5' score || fail "score: $(cat score)"
python3 - <<'PYTHON'
with open("logits.npy", "rb") as file:
    head = file.read(128)
assert head[:8] == b"\x93NUMPY\x01\x00" and b"(5, 49152)" in head, head
PYTHON
kvgen -m smollm2 --trace trace -n 5 f32.kv "$question" </dev/null >/dev/null
[ "$(wc -l <trace)" = 5 ] || fail 'trace'
python3 -c 'import json; t = [json.loads(line)["t_ns"] for line in open("trace")]; assert t == sorted(t)'
answer --temperature 1 --seed 3 f32.kv "$question" >a
answer --temperature 1 --seed 3 f32.kv "$question" | cmp - a
answer --stop lighthouse f32.kv "$question" | grep -q lighthouse && fail '--stop'
# JSON Lines: ids and fields.
printf '{"id":7,"tokens":[1,2,3],"label":"x"}\n' | kvprefill -m smollm2 --jsonl | kvinfo --json | grep -q '"label":"x"' || fail 'fields'
kvprefill -m smollm2 --split 100 "$text" | kvinfo | grep -q "report.txt#1' tokens 0:" || fail '--split'
