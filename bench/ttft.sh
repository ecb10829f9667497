#!/usr/bin/env bash
# bench/ttft.sh [BUILD]: time to the first token of a question behind a text of 4,096 tokens: kvgen
# from its cache, raw and coded, beside kvgen reading the text. Goal: 20 times. Loading the model is
# in neither. Exit status 1 when it is missed.
#   KVTOOLS_BENCH_ROUNDS  default 5
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:-build}")
rounds=${KVTOOLS_BENCH_ROUNDS:-5}
export PATH=$build/tools:$PATH KVTOOLS_MODELS=${KVTOOLS_MODELS:-$root/.deps/models}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# The example's text over and over, cut where it has about 4,096 tokens.
for _ in 1 2 3; do cat "$root/examples/data/report.txt"; done >long.txt
tokens=$(kvprefill -q -m smollm2 long.txt | kvinfo --json | tr ',' '\n' | sed -n 's/.*"token_count": *\([0-9]*\).*/\1/p' | head -1)
head -c $(($(wc -c <long.txt) * 4096 / tokens)) long.txt >text.txt
kvprefill -q -m smollm2 text.txt -o text.kv
kvencode --lossless text.kv -o lossless.kvz
question='Question: Who was the engineer of the lighthouse? Answer:'
stat_of() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p"; }
first_token() { stat_of ttft_s <"$1" | awk -v load="$(stat_of model_load_s <"$1")" '{ print $1 - load }'; }

for _ in $(seq "$rounds"); do
  for form in text.kv lossless.kvz; do
    kvgen -m smollm2 -n 1 --stats "$question" <$form 2>stats >/dev/null
    first_token stats >>"$form.s"
  done
  { cat text.txt; printf '%s' "$question"; } >prompt
  kvgen -m smollm2 -n 1 --no-cache --stats --prompt-file prompt 2>stats >/dev/null
  first_token stats >>text.s
done
median() { sort -g "$1" | awk '{ n[NR] = $1 } END { print n[int((NR + 1) / 2)], n[1], n[NR] }'; }
read -r full _ _ < <(median text.s)
printf '| first token behind 4,096 tokens, ms | median | fastest | slowest | of prefill |\n|---|---|---|---|---|\n'
missed=0
for form in text.s text.kv.s lossless.kvz.s; do
  read -r middle least most < <(median $form)
  awk -v f="${form%.s}" -v m="$middle" -v l="$least" -v h="$most" -v full="$full" \
    'BEGIN { printf "| %s | %.0f | %.0f | %.0f | %.1fx |\n", f, 1e3 * m, 1e3 * l, 1e3 * h, full / m }'
done
read -r cached _ _ < <(median text.kv.s)
awk -v a="$full" -v b="$cached" 'BEGIN { exit a < 20 * b }' || missed=1
exit $missed
