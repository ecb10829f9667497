#!/usr/bin/env bash
# Questions over a small set of documents: each paragraph of a report is prefilled once, alone, in one
# batch. For each question the four paragraphs that share most words with it are looked up, their
# caches fused by kvblend with 15 % of the tokens recomputed, and the question answered behind them;
# beside it what a prefill of the same text says, and how far the two are apart.
#   examples/rag.sh BUILD_DIR
set -euo pipefail

build=${1:?usage: examples/rag.sh BUILD_DIR}
here=$(cd "$(dirname "$0")" && pwd)
PATH="$(cd "$build" && pwd)/tools:$PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
step() { printf '\n$ %s\n' "$*" >&2; }

# A document a line, as kvprefill --jsonl has them. A paragraph goes on where another may begin.
awk 'BEGIN { RS = "" } length($0) > 200 { gsub(/"/, "\\\""); printf "{\"id\": \"%02d\", \"text\": \"%s\\n\\n\"}\n", ++n, $0 }' \
  "$here/data/report.txt" >documents.jsonl
step 'kvprefill -m smollm2 --jsonl --out-dir caches documents.jsonl'
kvprefill -q -m smollm2 --jsonl --out-dir caches documents.jsonl

# The ids of the four lines with most of the question's words of four letters or more, in their order.
lookup() {
  local words
  words=$(tr -cs '[:alpha:]' '\n' <<<"$1" | awk 'length($0) > 3' | sort -u | paste -sd '|')
  awk -v words="${words,,}" '{
    line = tolower($0); n = split(words, word, "|"); found = 0
    for (i = 1; i <= n; ++i) found += index(line, word[i]) > 0
    printf "%d %02d\n", found, NR }' documents.jsonl | sort -k1,1nr -k2,2 | head -4 | awk '{ print $2 }' | sort
}
number() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p" "$2"; }

questions=(
  'Question: Who was the engineer of the lighthouse? Answer: The engineer was'
  'Question: When were the chairs in the oil store made? Answer: The brass oil can was made in the year'
  'Question: How many panes of glass has the lantern? Answer: The lantern has'
)
i=0
for question in "${questions[@]}"; do
  i=$((i + 1))
  chunks=() ids=()
  while read -r id; do
    chunks+=("caches/$id.kv")
    ids+=("$id")
  done < <(lookup "$question")
  step "kvblend -m smollm2 ${chunks[*]} | kvgen -m smollm2 '$question'"
  kvblend -q -m smollm2 "${chunks[@]}" | kvgen -m smollm2 -n 16 --stop $'\n' "$question" | tee "blended$i"
  # The same question in the fused cache itself, beside a prefill of all of it.
  kvblend -q -m smollm2 --suffix "$question" --verify --json --next 16 "${chunks[@]}" >"verified$i"
  { for id in "${ids[@]}"; do sed -n "$((10#$id))p" documents.jsonl; done; } |
    sed 's/^.*"text": "//; s/\\n\\n"}$/\n/; s/\\"/"/g' >"prompt$i"
  printf '%s' "$question" >>"prompt$i"
  kvgen -m smollm2 --no-cache --prompt-file "prompt$i" -n 16 --stop $'\n' >"full$i"
done

printf '\n%-9s %8s %10s %10s %9s %9s %7s  %s\n' '' reused recomputed 'prefill s' 'blend s' KLD top-1 'answers: blended | prefilled' >&2
for i in 1 2 3; do
  printf '%-9s %8s %10s %10.2f %9.2f %9.3f %6.0f%%  %s | %s\n' "question $i" "$(number reused "verified$i")" \
    "$(number recomputed "verified$i")" "$(number prefill_s "verified$i")" "$(number compute_s "verified$i")" \
    "$(number kld_mean "verified$i")" "$(awk -v t="$(number top1 "verified$i")" 'BEGIN { print 100 * t }')" \
    "$(head -c 40 "blended$i" | tr -d '\n')" "$(head -c 40 "full$i" | tr -d '\n')" >&2
done
