#!/usr/bin/env bash
# bench/rate_quality.sh [BUILD [WORK]]: quality over bytes of every codec on the embedded model: real
# text, KL divergence of the next-token distributions from the raw bf16 cache, all bytes counted.
# Leaves results.jsonl, report.md, a .json and a .svg a probe in WORK; what is there is not measured
# again. Exit status 125 without the texts ($KVTOOLS_SHARED/data/text) or the model.
#   RQ_TOKENS   of context: 2048 (default), 512 or 7936 (the model's context is 8192)
#   RQ_ONLY     families, separated by spaces (default: all)
#   RQ_SKIP     recipes left out: zstd/19 takes 45 s of one core a window
#   RQ_RUN      more options of `rate_quality run`: --no-copy, --device cuda
#   RQ_LEVELS   of clp (default: 1 2 3 4)
#   RQ_AT_KLD   where bits are compared (default: 0.001 0.003 0.01)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:-$root/build-ci}")
tokens=${RQ_TOKENS:-2048}
work=${2:-$build/rate_quality/$tokens}
export KVTOOLS_MODELS=${KVTOOLS_MODELS:-$root/.deps/models}
export KVTOOLS_SHARED=${KVTOOLS_SHARED:-$root/../shared}
bench=$build/tests/rate_quality
[ -x "$bench" ] || { echo "SKIPPED: no $bench; it is built with LibTorch and tests" >&2; exit 125; }
"$build/tools/kvinfo" -m smollm2 >/dev/null 2>&1 || { echo 'SKIPPED: no model smollm2' >&2; exit 125; }

# What is measured: family/point=encode or family/point=encode|||decode.
# shellcheck disable=SC2016  # the recipe's shell knows the variables
prefill='kvprefill -q -m "$RQ_MODEL" --compute f32 --no-bos --no-history --jsonl "$RQ_CONTEXT"'
recipes=(
  'raw=cat'
  'lossless=kvencode --lossless --no-history'
  'zstd/3=zstd -q -3|||zstd -q -d'
  'zstd/19=zstd -q -19 -T0|||zstd -q -d'
  "fp8_e4m3=$prefill --dtype fp8_e4m3"
  "fp8_e5m2=$prefill --dtype fp8_e5m2"
  'q8_0=kvencode --codec q8_0 --no-history'
  'q4_0=kvencode --codec q4_0 --no-history'
)
for bits in 2 3 4; do
  recipes+=("kivi/$bits=kvencode --codec kivi --bits $bits --no-history")
done
for level in 1 2 3 4 5; do
  recipes+=("cachegen-code/$level=kvencode --codec cachegen-code -l $level --no-history")
done
for level in 1 2 3 4; do
  recipes+=("ecsq/$level=kvencode --codec ecsq -l $level --no-history"
    "ecsq-no-importance/$level=kvencode --codec ecsq -l $level --no-importance --no-history")
done
for level in 1 2; do
  for quality in 0 1 2; do
    recipes+=("progressive-$level/$quality=kvencode --progressive -l $level --no-history |
kvcat --no-history --quality $quality")
  done
done
# A profile a level, made once from the other split: some minutes each.
for level in ${RQ_LEVELS:-1 2 3 4}; do
  for step in -3 0 3; do
    recipes+=("clp/$level.$step=kvencode --profile $work/profiles/l$level.kvp -l $level --step $step \
--no-history")
  done
done

mkdir -p "$work"
musique=4
if [ "$tokens" -gt 4096 ]; then musique=3; fi  # the passages end
status=0
"$bench" windows --split test --tokens "$tokens" --musique $musique -f -o "$work/windows.jsonl" || status=$?
[ $status = 0 ] || exit $status
arguments=() families=()
for recipe in "${recipes[@]}"; do
  name=${recipe%%=*}
  family=${name%%/*}
  if [ -n "${RQ_ONLY:-}" ] && [[ " $RQ_ONLY " != *" $family "* ]]; then continue; fi
  if [[ " ${RQ_SKIP:-} " == *" $name "* ]]; then continue; fi
  arguments+=(--recipe "$recipe")
  families+=("$family")
done
export KVTOOLS_PROFILES=$work/profiles
if [[ " ${families[*]} " == *' clp '* ]]; then
  mkdir -p "$work/profiles"
  "$bench" windows --split calibration -f -o "$work/calibration.jsonl"
  for level in ${RQ_LEVELS:-1 2 3 4}; do
    [ -e "$work/profiles/l$level.kvp" ] ||
      "$build/tools/kvcalibrate" -m smollm2 --compute f32 -l "$level" --tokens 65536 --jsonl \
        --work "$work/samples" "$work/calibration.jsonl" -o "$work/profiles/l$level.kvp"
  done
fi
# Tokens that matter are marked in the raw files too.
read -ra more <<<"${RQ_RUN:-} --prefill-flags=--importance"
"$bench" run --windows "$work/windows.jsonl" --work "$work" "${more[@]}" "${arguments[@]}" ||
  status=$?

read -ra levels <<<"${RQ_AT_KLD:-0.001 0.003 0.01}"
: >"$work/report.md"
for probe in continuation copy; do
  if [ $probe = copy ] && [[ ${RQ_RUN:-} == *--no-copy* ]]; then continue; fi
  report=("$bench" report "$work/results.jsonl" --probe "$probe" --only "${families[@]}"
    --at-kld "${levels[@]}")
  "${report[@]}" --plot "$work/$probe.svg" \
    --title "SmolLM2-135M-Instruct, $tokens tokens: $probe" | tee -a "$work/report.md"
  echo | tee -a "$work/report.md"
  "${report[@]}" --json >"$work/$probe.json"
done
exit $status
