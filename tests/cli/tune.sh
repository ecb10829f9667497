#!/usr/bin/env bash
# Fine-tuning the real model, a few steps: adapters that all tools take, runs that go on, and what is
# refused. Gradients, merging and files are tests/unit/{tune,adapter}_test.cc's.
source "$(dirname "$0")/lib.sh"
[ -x "$tools/kvtune" ] || skip "no LibTorch"
has_model || skip "no model"
cat >train.jsonl <<'END'
{"prompt": ["The tower was finished in 1874.\n", "Question: when?\nAnswer:"], "completion": " In 1874, friend"}
{"prompt": "Question: who?\nAnswer:", "completion": " Thomas, friend"}
{"messages": [{"role": "user", "content": "Say yes."}, {"role": "assistant", "content": "yes, friend"}]}
END
tune() { kvtune -m smollm2 --compute f32 --threads 1 --steps 4 --batch 2 --rank 2 --layers 27:30 --lr 0.01 --warmup 1 "$@" train.jsonl; }
loss() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$@"; }

tune -o one --validation train.jsonl --log log.jsonl --json >result
awk -v a="$(loss result held_out_loss)" -v b="$(loss result held_out_loss_before)" \
  'BEGIN { exit !(a < b) }' || fail "the loss does not fall: $(<result)"
[ "$(grep -c '"loss"' log.jsonl)" = 4 ] || fail "the log: $(<log.jsonl)"
[ "$(ls one)" = $'adapter_config.json\nadapter_model.safetensors' ] || fail "$(ls one)"
# In two parts, with the state on disk between them: the same bytes. Again: the same too.
tune -q -o two --state state --stop-after 3
absent two
tune -q -o two --state state
cmp one/adapter_model.safetensors two/adapter_model.safetensors
tune -q -o three --state state # all steps are done
cmp one/adapter_model.safetensors three/adapter_model.safetensors
expect 3 kvtune -m smollm2 --compute f32 --state state --steps 5 -o four train.jsonl
says 'the state of another run'
tune -q --seed 2 -f -o two
! cmp -s one/adapter_model.safetensors two/adapter_model.safetensors || fail 'another seed, the same'

# The adapter is a part of the model's name everywhere, with a fingerprint that names its base.
kvinfo -m smollm2+one >card
grep -q '^adapter .*one, rank 2' card || fail "$(<card)"
grep -q "^base .*$(kvinfo -m smollm2 --json | sed -n 's/.*"fingerprint": "\(.*\)".*/\1/p')" card || fail "$(<card)"
[ "$(kvinfo -m smollm2+one --json | grep -c fingerprint)" = 3 ] || fail "$(kvinfo -m smollm2+one --json)"
kvprefill -m smollm2+one "$data/report.txt" -o tuned.kv
kvinfo tuned.kv | grep -q '^  base' || fail "$(kvinfo tuned.kv)"
kvgen -m smollm2+one -n 2 tuned.kv 'Who?' >said
expect 3 kvgen -m smollm2 -n 2 tuned.kv 'Who?'
says 'made with'
expect 3 kvgen -m smollm2+two -n 2 tuned.kv 'Who?'
# An adapter's own adapter is one more plus sign.
kvtune -m smollm2+one -q --steps 1 --rank 1 --layers 29 --targets q_proj -o more train.jsonl
kvinfo -m smollm2+one+more | grep -q 'smollm2+one+more' || fail 'two adapters'
expect 3 kvinfo -m smollm2+more
says 'made for a model with fingerprint'

# What cannot be.
expect 3 kvinfo -m one
says 'name its model before it'
expect 5 kvinfo -m smollm2+nothing
cp -r one broken && rm broken/adapter_model.safetensors
expect 3 kvprefill -m smollm2+broken "$data/report.txt" -o not.kv
says 'no adapter_model.safetensors'
absent not.kv
cp -r one wrong && sed -i 's/"r": 2/"r": 3/' wrong/adapter_config.json
expect 3 kvgen -m smollm2+wrong --no-cache -n 1 x
says 'needs 3x'
head -c 2000 one/adapter_model.safetensors >broken/adapter_model.safetensors
expect 3 kvgen -m smollm2+broken --no-cache -n 1 x
for line in '{"prompt": "x"}' '{"text": "x"}' 'x' ''; do
  printf '%s\n' "$line" >bad.jsonl
  expect 3 kvtune -m smollm2 -o not bad.jsonl
done
absent not
for wrong in '--targets w' '--layers 30' '--rank 0' '--steps 0' '--lr 0' '--dtype fp8_e4m3' '--stop-after 2' '--warmup 101'; do
  # shellcheck disable=SC2086
  expect 2 kvtune -m smollm2 $wrong -o not train.jsonl
done
expect 3 kvtune -m smollm2 --max-tokens 5 -o not train.jsonl
says 'line 1: '
expect 4 kvtune -m smollm2 -o one train.jsonl
expect 4 kvtune -m smollm2 -o not missing.jsonl
absent not not.*
