#!/usr/bin/env bash
# A text's cache, made by the base model, becomes that of two fine-tunes of it. For each a profile over
# some prompts finds which layers must be recomputed; then the cache is shared by that plan, and the
# fine-tune answers behind it, and behind its own prefill.
#   examples/share.sh BUILD_DIR [PROMPTS]        how many prompts to profile by; 8
set -euo pipefail

build=${1:?usage: examples/share.sh BUILD_DIR [PROMPTS]}
prompts=${2:-8}
here=$(cd "$(dirname "$0")" && pwd)
PATH="$(cd "$build" && pwd)/tools:$PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
step() { printf '\n$ %s\n' "$*" >&2; }
python3 "$here/adapters/make_data.py" data

cat >text.txt <<'END'
The Tollgate mill was completed in 1788. It stands at the edge of Withy Cross. Rain comes in by the north window. Its walls are of pale stone. The plans were drawn by Esther Wren. It is 24 metres high. Today its owner is the village school.
END
question() { [ "$1" = short ] && printf 'Question: Who drew the plans of the Tollgate mill?\nAnswer:' || printf 'Record:'; }

for name in short record; do
  model=smollm2+$here/adapters/$name
  step "kvdiff-layers --profile -m smollm2 -m smollm2+$name -o $name.json prompts.jsonl"
  head -n "$prompts" "data/$name.profile.jsonl" >prompts.jsonl
  kvdiff-layers --profile -q -m smollm2 -m "$model" -o "$name.json" prompts.jsonl
  layer=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["hidden_layer"] or 0)' "$name.json")
  hidden=()
  [ "$layer" = 0 ] || hidden=(--hidden "$layer")
  step "kvprefill -m smollm2 ${hidden[*]} text.txt >base.kv"
  kvprefill -q -m smollm2 "${hidden[@]}" text.txt >base.kv
  step "kvshare -m smollm2+$name --plan $name.json base.kv | kvgen -m smollm2+$name '...'"
  kvshare -m "$model" --plan "$name.json" base.kv | tee shared.kv | kvgen -m "$model" -n 48 "$(question $name)"
  kvinfo shared.kv | grep '^  shared'
  step "kvgen -m smollm2+$name, behind its own prefill:"
  kvprefill -q -m "$model" text.txt | kvgen -m "$model" -n 48 "$(question $name)"
  step "kvgen -m smollm2, the base:"
  kvgen -m smollm2 -n 48 base.kv "$(question $name)"
done
