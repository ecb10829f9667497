#!/usr/bin/env bash
# bench/rate_quality.sh [BUILD [WORK]]: quality over bytes of every codec on the embedded model: real
# text, KL divergence of the next-token distributions from the raw bf16 cache, all bytes counted.
# Leaves results.jsonl, report.md, a .json and a .svg a probe in WORK; what is there is not measured
# again. Exit status 125 without the texts ($KVTOOLS_SHARED/data/text) or the model.
#   RQ_TOKENS   of context: 2048 (default), 512 or 7936 (the model's context is 8192)
#   RQ_ONLY     families, separated by spaces (default: all)
#   RQ_SKIP     recipes left out; zstd/19 takes 45 s of one core a window
#   RQ_RUN      more options of `rate_quality run`: --no-copy, --device cuda
#   RQ_LEVELS   of clp (default: 1 2 3 4)
#   RQ_STEPS    of clp, beside each level's own (default: -3 0 3)
#   RQ_PROFILES folder with profiles of an earlier run, WORK by default: those of other lengths
#   RQ_SET_UP   level 2's profile of set-up (default: .deps/profiles/smollm2.l2.kvp)
#   RQ_AT_KLD   where bits are compared (default: 0.0005 0.001 0.002 0.003 0.01)
# A recipe and window takes 3 s with both probes, the profiles 5 minutes: all of it half an hour.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:-$root/build-ci}")
tokens=${RQ_TOKENS:-2048}
work=${2:-$build/rate_quality/$tokens}
made=${RQ_PROFILES:-$work}
set_up=${RQ_SET_UP:-$root/.deps/profiles/smollm2.l2.kvp}
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
for level in 1 2 3 4 5 6 7 8; do
  recipes+=("cachegen/$level=kvencode --codec cachegen --profile $made/profiles/smollm2.kvprofile \
-l $level --no-history")
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
# clp with the profiles of texts like those of the test, with level 2 of one kind of them only, and with
# that which set-up makes of other texts.
clp() { # family, profile, level, steps
  local step
  for step in $4; do
    recipes+=("$1/$3.$step=kvencode --profile $2 -l $3 --step $step --no-history")
  done
}
for level in ${RQ_LEVELS:-1 2 3 4}; do
  clp clp "$made/profiles/smollm2.l$level.kvp" "$level" "${RQ_STEPS:--3 0 3}"
  recipes+=("clp-no-importance/$level=kvencode --profile $made/profiles/smollm2.l$level.kvp -l $level \
--no-importance --no-history")
done
# By what is asked for, from the maps of all levels.
asked="KVTOOLS_PROFILES=$made/profiles kvencode --no-history"
for kld in 0.0005 0.002 0.01; do recipes+=("clp-max-kld/$kld=$asked --max-kld $kld"); done
for bits in 0.7 1.0; do recipes+=("clp-bits/$bits=$asked --bits $bits"); done
clp clp-two-back "$made/back/smollm2.l2.kvp" 2 '-3 0 3'
for kind in longchat musique; do clp clp-of-$kind "$made/$kind/smollm2.l2.kvp" 2 '-8 -4 0 4'; done
if [ -e "$set_up" ]; then clp clp-of-set-up "$set_up" 2 '-8 -4 0 4'; fi

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
export KVTOOLS_PROFILES=$made/profiles:$made/back:$made/longchat:$made/musique:$set_up
KVTOOLS_PROFILES+=:$made/profiles/smollm2.kvprofile
# calibrate FOLDER LONGCHAT MUSIQUE LEVELS OPTION...: from so many windows of each, in turn.
calibrate() {
  local folder=$made/$1 level todo=()
  for level in $4; do
    [ -e "$folder/smollm2.l$level.kvp" ] || todo+=("$level")
  done
  [ ${#todo[@]} -gt 0 ] || return 0
  mkdir -p "$folder"
  "$bench" windows --split calibration --longchat "$2" --musique "$3" -f -o "$folder/windows.jsonl"
  paste -d '\n' <(grep '"longchat"' "$folder/windows.jsonl") \
    <(grep '"musique"' "$folder/windows.jsonl") | sed '/^$/d' >"$folder/texts.jsonl"
  "$build/tools/kvcalibrate" -m smollm2 --jsonl --out-dir "$folder" -l "$(IFS=,; echo "${todo[*]}")" \
    "${@:5}" "$folder/texts.jsonl"
}
# measured FAMILY: whether any recipe is of it.
measured() { [[ " ${families[*]} " == *" $1 "* ]]; }
if measured clp || measured clp-max-kld || measured clp-bits || measured clp-no-importance; then
  calibrate profiles 9 9 "${RQ_LEVELS:-1 2 3 4}"
fi
if measured clp-two-back; then calibrate back 9 9 2 --back 2; fi
if measured clp-of-longchat; then calibrate longchat 18 0 2; fi
if measured clp-of-musique; then calibrate musique 0 18 2; fi
if measured cachegen && [ ! -e "$made/profiles/smollm2.kvprofile" ]; then
  calibrate profiles 9 9 "${RQ_LEVELS:-1 2 3 4}"
  "$build/tools/kvcalibrate" -m smollm2 --codec cachegen --jsonl --work "$made/profiles/samples" \
    "$made/profiles/texts.jsonl" -f -o "$made/profiles/smollm2.kvprofile"
fi
# Tokens that matter are marked in the raw files too.
read -ra more <<<"${RQ_RUN:-} --prefill-flags=--importance"
"$bench" run --windows "$work/windows.jsonl" --work "$work" "${more[@]}" "${arguments[@]}" ||
  status=$?

read -ra levels <<<"${RQ_AT_KLD:-0.0005 0.001 0.002 0.003 0.01}"
: >"$work/report.md"
for probe in continuation copy; do
  if [ $probe = copy ] && [[ ${RQ_RUN:-} == *--no-copy* ]]; then continue; fi
  report=("$bench" report "$work/results.jsonl" --probe "$probe" --only "${families[@]}"
    --at-kld "${levels[@]}")
  "${report[@]}" --plot "$work/$probe.svg" \
    --title "SmolLM2-135M-Instruct, $tokens tokens: $probe" | tee -a "$work/report.md"
  echo | tee -a "$work/report.md"
  "${report[@]}" --json >"$work/$probe.json"
  # What a profile of other texts costs is seen by kind.
  for kind in longchat musique; do
    { echo "Only $kind:"; "${report[@]}" --domain $kind; } >"$work/$probe-$kind.md"
  done
done
exit $status
