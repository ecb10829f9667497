#!/usr/bin/env bash
# kvconvert and kvhash as a user calls them: layouts there and back, files that do not fit.
source "$(dirname "$0")/lib.sh"
kvinfo -m smollm2 >/dev/null 2>&1 || skip 'no model'
has_model || skip 'report.kv is not of the model'
plain() { kvcat --no-history "$@"; }
cp "$data"/report.* .
kvinfo --tokens report.kv >report.ids

# Without RoPE f32 holds everything.
kvconvert --to npy --no-rope -o plain report.kv
kvconvert --from npy -m smollm2 --dtype bf16 --no-history plain >again.kv
cmp <(plain again.kv | kvconvert --to transformers -) <(kvconvert --to transformers report.kv)
# A coded stream and a pipe give the same files.
kvconvert --to transformers -o whole.safetensors report.kv
kvconvert --to transformers report.kvz | cmp - whole.safetensors
kvconvert --to transformers --threads 1 <report.kv | cmp - whole.safetensors

for layout in npy transformers llamacpp vllm; do
  options=()
  from=out.$layout
  [ $layout != vllm ] || options=(--block 64)
  kvconvert --to $layout "${options[@]}" -o out.$layout report.kv 2>notes
  expect 4 kvconvert --to $layout "${options[@]}" -o out.$layout report.kv
  kvconvert --to $layout "${options[@]}" -f -o out.$layout report.kv 2>notes
  if [ $layout = vllm ]; then
    grep -q 'whole blocks only' notes || fail 'not said that tokens are left out'
    from=out.vllm/$(kvhash --engine vllm --block 64 report.kv | cut -f2)
    options+=(--ids report.ids)
  fi
  kvconvert --from $layout -m smollm2 "${options[@]}" -o $layout.kv "$from"
  kvinfo --check --quiet $layout.kv
  count=$(kvinfo --tokens $layout.kv | wc -l)
  cmp <(kvinfo --tokens $layout.kv) <(head -n "$count" report.ids) || fail "ids of $layout"
  [ $layout = vllm ] || [ "$count" = "$(wc -l <report.ids)" ] || fail "$layout: $count tokens"
  # The same text answers the same.
  tail=$((count - 1))
  plain --tokens ":$tail" $layout.kv | kvgen -m smollm2 -n 12 ' It' >answer
  plain --tokens ":$tail" report.kv | kvgen -m smollm2 -n 12 ' It' | cmp - answer ||
    fail "$layout: another answer"
done

# Stores of blocks: what is there of a prompt comes back.
for layout in vllm-tier hicache lmcache lmcache-gds; do
  options=(--block 64 --model-name org/smollm2 --tp 3)
  kvconvert --to $layout "${options[@]}" -o store.$layout report.kv 2>notes
  expect 4 kvconvert --to $layout "${options[@]}" -o store.$layout report.kv
  kvconvert --from $layout -m smollm2 "${options[@]}" --ids report.ids store.$layout >store.kv
  [ "$(kvinfo --tokens store.kv | wc -l)" = $(($(wc -l <report.ids) / 64 * 64)) ] || fail "$layout"
  expect 3 kvconvert --from $layout -m smollm2 "${options[@]}" --ids <(seq 500) store.$layout
  expect 2 kvconvert --to $layout --block 64 -o other report.kv
done
# Through a pipe, values wait in a temporary file.
kvconvert --to llamacpp report.kv | cmp - out.llamacpp

expect 2 kvconvert report.kv
expect 2 kvconvert --to npy --from npy report.kv
expect 2 kvconvert --to nothing report.kv
expect 2 kvconvert --to npy report.kv
says 'with -o'
expect 2 kvconvert --to npy --dtype bf16 -o bf16 report.kv
expect 2 kvconvert --from npy plain
expect 2 kvconvert --to vllm --backend tpu -o other report.kv
expect 2 kvconvert --to hicache --backend cpu -o other report.kv
expect 2 kvconvert --to llamacpp --values diagonal -o other report.kv
expect 2 kvconvert --to transformers --block 16 report.kv
expect 3 kvconvert --to vllm -o other <(cat report.kv report.kv)
says 'several members'
expect 3 kvconvert --to transformers -o other report.txt
expect 3 kvconvert --from llamacpp -m smollm2 -o other report.txt
expect 3 kvconvert --from transformers -m smollm2 -o other <(head -c 5000 whole.safetensors)
expect 5 kvconvert --from npy -m no_such_model -o other plain
head -c 5000 whole.safetensors >cut.safetensors
expect 3 kvconvert --from transformers -m smollm2 -o other cut.safetensors
expect 3 kvconvert --from vllm -m smollm2 --block 64 --ids <(seq 500) -o other "$from"
says 'is not of these'
absent other bf16

cmp <(kvhash --engine hicache --ids report.ids) <(kvhash --engine hicache report.kv)
cmp <(kvhash --engine lmcache-mp --block 32 --text -m smollm2 report.txt) \
  <(kvhash --engine lmcache-mp --block 32 report.kvz)
sed '100s/.*/1/' report.ids >other.ids
expect 1 kvhash --explain --engine hicache --block 16 --ids report.ids other.ids
grep -q '^tokens: part at 99:' out || fail "explained: $(<out)"
grep -q '^hicache .* 96 tokens hit' out || fail "explained: $(<out)"
expect 0 kvhash --explain --engine hicache --block 16 --ids report.ids report.ids
expect 1 kvhash --explain --engine hicache --block 16,32 --seed a,b --ids report.ids report.ids
grep -q '^block: 16 and 32$' out || fail "explained: $(<out)"
grep -q '^seed: a and b$' out || fail "explained: $(<out)"
# Another dtype is another name for LMCache, and nothing that vLLM's connector would notice.
kvconvert --to npy --dtype f16 -o half report.kv
kvconvert --from npy -m smollm2 half >half.kv
expect 1 kvhash --explain --engine vllm report.kv half.kv
grep -q '^dtype: bf16 and f16$' out || fail "explained: $(<out)"
grep -q '^vllm  .* does not notice dtype$' out || fail "explained: $(<out)"
grep -q '^lmcache  .* kept apart by dtype$' out || fail "explained: $(<out)"
expect 1 kvhash --explain --names m@1@0@9ab@half.data m@1@0@9ab@bfloat16@tag%x.data
grep -q '^dtype: half and bfloat16$' out || fail "explained: $(<out)"
expect 0 kvhash --explain --names a/m@1@0@9ab@half.data b/m@1@0@9ab@half.data
expect 3 kvhash --explain --names report.kv half.kv
expect 2 kvhash --names report.kv
expect 2 kvhash --block 16,32 report.kv
expect 2 kvhash --engine nothing report.kv
expect 2 kvhash --text report.txt
expect 3 kvhash --ids report.txt
