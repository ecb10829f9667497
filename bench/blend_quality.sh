#!/usr/bin/env bash
# bench/blend_quality.sh [BUILD [WORK]]: what blending does to answers, on 60 items of Musique: six
# chunks of about 250 tokens that a retriever would find, prefilled alone, and the question behind them.
# Full reuse, reuse of the first chunk only, and every rule at six shares, each beside a full prefill.
# Tables go to stdout, WORK/blend.json has each prompt's figures, WORK/blend.svg a picture. What a run
# has measured is kept in WORK and not measured again. Exit status 1 when a goal is missed, 125 without
# the texts ($KVTOOLS_SHARED/data/text) or the model.
#   KVTOOLS_BENCH_ITEMS   default 60
#   KVTOOLS_BENCH_SHARES  default '5% 10% 15% 20% 30% 50%'
# An item takes about 70 s of one core: all of it an hour on two.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:-build}")
work=${2:-$build/blend_quality}
shared=${KVTOOLS_SHARED:-$root/../shared}
items=${KVTOOLS_BENCH_ITEMS:-60}
read -ra shares <<<"${KVTOOLS_BENCH_SHARES:-5% 10% 15% 20% 30% 50%}"
export PATH=$build/tools:$PATH KVTOOLS_MODELS=${KVTOOLS_MODELS:-$root/.deps/models}
texts=$shared/data/text/musique.jsonl
[ -e "$texts" ] || { echo "SKIPPED: no $texts" >&2; exit 125; }
kvinfo -m smollm2 >/dev/null 2>&1 || { echo 'SKIPPED: no model smollm2' >&2; exit 125; }
mkdir -p "$work"
python3 "$root/bench/blend_prompts.py" "$texts" "$items" 6 1000 >"$work/prompts.jsonl"

recipes=(--recipe 'kvblend --select none' --recipe 'kvcat --members 0')
for share in "${shares[@]}"; do
  for rule in hkvd first random; do recipes+=(--recipe "kvblend --select $rule -r $share"); done
  # shellcheck disable=SC2016  # kveval knows the variable
  recipes+=(--recipe "kvblend --select qattn -r $share"' --special --suffix "$KVEVAL_QUESTION"')
done
question=$'\nQuestion: {}\nAnswer in a few words.<|im_end|>\n<|im_start|>assistant\n'
run=(kveval -m smollm2 --compute f32 --special --question "$question" --work "$work/results.jsonl" "${recipes[@]}" "$work/prompts.jsonl")
"${run[@]}" --plot "$work/blend.svg" -f --title 'SmolLM2-135M-Instruct, Musique, six chunks' | tee "$work/blend.txt"
echo
"${run[@]}" --versus 'kvblend --select random -r 15%' --json >"$work/beside-random.json"
"${run[@]}" --json >"$work/blend.json"
exec python3 "$root/bench/blend_goals.py" "$work"
