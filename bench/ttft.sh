#!/usr/bin/env bash
# bench/ttft.sh [BUILD]: time to the first token of a question behind a text of 4,096 tokens: from
# its cache, raw and coded, beside reading the text. Once in a process that has the model, as a
# server has (the goal: 20 times), and once whole commands, from their start to their end. Exit
# status 1 when the goal is missed.
#   KVTOOLS_BENCH_ROUNDS  default 7
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:-build}")
rounds=${KVTOOLS_BENCH_ROUNDS:-7}
export PATH=$build/tools:$PATH KVTOOLS_MODELS=${KVTOOLS_MODELS:-$root/.deps/models}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

"$root/bench/text.sh" 4096 >text.txt
kvprefill -q -m smollm2 text.txt -o text.kv
kvencode --lossless text.kv -o lossless.kvz
question='Question: Who was the engineer of the lighthouse? Answer:'
{ cat text.txt; printf '%s' "$question"; } >prompt

# FORM MILLISECONDS, a line each, in table $1: medians; the middle of text in $full, of text.kv in $cached.
table() {
  printf '| %s | median | fastest | slowest | of the text |\n|---|---|---|---|---|\n' "$1"
  full=$(middle text "$1")
  cached=$(middle text.kv "$1")
  for form in text text.kv lossless.kvz; do
    awk -v f="$form" '$1 == f { print $2 }' "$1" | sort -g |
      awk -v f="$form" -v full="$full" '{ n[NR] = $1 } END { m = n[int((NR + 1) / 2)]
        printf "| %s | %.0f | %.0f | %.0f | %.1fx |\n", f, m, n[1], n[NR], full / m }'
  done
}
middle() { awk -v f="$1" '$1 == f { print $2 }' "$2" | sort -g | awk '{ n[NR] = $1 } END { print n[int((NR + 1) / 2)] }'; }

"$build/tests/ttft_bench" smollm2 text.txt "$question" "$rounds" 0 text.kv lossless.kvz |
  sed 's/^0 //' >'with the model in memory, ms'
whole() { # FORM COMMAND...
  local form=$1 start
  shift
  start=$(date +%s%N)
  "$@" >/dev/null
  echo "$form $((($(date +%s%N) - start) / 1000000))" >>'whole command, ms'
}
for _ in $(seq "$rounds"); do
  for form in text.kv lossless.kvz; do
    whole $form kvgen -m smollm2 -n 1 -p "$question" "$form"
  done
  whole text kvgen -m smollm2 -n 1 --no-cache --prompt-file prompt
done
table 'whole command, ms'
table 'with the model in memory, ms'
awk -v a="$full" -v b="$cached" 'BEGIN { exit a < 20 * b }'
