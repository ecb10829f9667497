#!/usr/bin/env bash
# bench/ttft_links.sh [BUILD] [--profile FILE.kvp]: time to the first token of a question behind texts
# of several lengths: from the raw cache and from the standard level, each as a link of 1, 10, 40 and
# 100 Gb/s brings it, beside kvgen reading the text. Loading the model is in none. What a pipe cannot
# carry, 40 and 100 Gb/s, is measured without a link, plus the bytes over the rate: no more than it
# would be. 125 without a profile of the model for level 2.
#   KVTOOLS_BENCH_ROUNDS  default 5
#   TTFT_LENGTHS          default '512 2048 4096 7936', in tokens
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build
[ -n "${1:-}" ] && [ -d "$1" ] && { build=$(realpath "$1"); shift; }
[ "${1:-}" != --profile ] || export KVTOOLS_PROFILES=$(realpath "$2")
rounds=${KVTOOLS_BENCH_ROUNDS:-5}
export PATH=$build/tools:$build/tests:$PATH KVTOOLS_MODELS=${KVTOOLS_MODELS:-$root/.deps/models}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

question='Question: Who was the engineer of the lighthouse? Answer:'
for _ in 1 2 3 4 5 6; do cat "$root/examples/data/report.txt"; done >long.txt
count_of() { kvinfo --json "$1" | tr ',' '\n' | sed -n 's/.*"token_count": *\([0-9]*\).*/\1/p' | head -1; }
stat_of() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p"; }
# What kvgen says of its run, in ms: to the first token without loading the model.
first_token() { echo "$(stat_of ttft_s <stats) $(stat_of model_load_s <stats)" | awk '{ print 1e3 * ($1 - $2) }'; }
# The fastest of the rounds: others use the machine too.
fastest() { for _ in $(seq "$rounds"); do "$@"; done | sort -g | head -1; }
from_file() { kvgen -q -m smollm2 -n 1 --stats "$question" <"$1" 2>stats >/dev/null && first_token; }
from_link() { link_bench "$1" "$2" | kvgen -q -m smollm2 -n 1 --stats "$question" 2>stats >/dev/null && first_token; }
from_text() { kvgen -q -m smollm2 -n 1 --no-cache --stats --prompt-file prompt 2>stats >/dev/null && first_token; }

printf '| first token, ms, behind | bytes | 1 Gb/s | 10 Gb/s | 40 Gb/s | 100 Gb/s | from a file |\n'
printf '|---|---|---|---|---|---|---|\n'
for length in ${TTFT_LENGTHS:-512 2048 4096 7936}; do
  head -c $((length * 6)) long.txt >more.txt
  kvprefill -q -m smollm2 --dtype bf16 --importance more.txt -o more.kv -f
  kvcat --tokens "0:$length" more.kv -o raw.kv -f
  if ! kvencode -q --codec clp -l 2 raw.kv -o standard.kvz -f 2>why; then
    cat why >&2
    exit 125
  fi
  # As much text as has so many tokens.
  head -c $((length * 6 * length / $(count_of more.kv))) more.txt >prompt
  printf '%s' "$question" >>prompt
  text=$(fastest from_text)
  printf '| **%d tokens**, reading the text | | %.0f | %.0f | %.0f | %.0f | %.0f |\n' "$length" "$text" "$text" \
    "$text" "$text" "$text"
  for file in raw.kv standard.kvz; do
    size=$(stat -c %s "$file")
    bare=$(fastest from_file "$file")
    one=$(fastest from_link 1 "$file")
    ten=$(fastest from_link 10 "$file")
    awk -v name="${file%.*}" -v size="$size" -v bare="$bare" -v one="$one" -v ten="$ten" 'BEGIN {
      printf "| %s | %.1f MB | %.0f | %.0f | %.0f | %.0f | %.0f |\n", name, size / 1e6, one, ten,
        bare + size * 8 / 40e6, bare + size * 8 / 100e6, bare }'
  done
done
