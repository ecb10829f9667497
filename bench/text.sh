#!/usr/bin/env bash
# text.sh TOKENS: the example's report over and over, cut where it has about so many tokens of the
# embedded model. kvprefill and kvinfo are in PATH.
set -euo pipefail
report=$(cd "$(dirname "$0")/.." && pwd)/examples/data/report.txt
count() { kvprefill -q -m smollm2 "$1" | kvinfo --tokens | wc -l; }
once=$(count "$report")
bytes=$(($(wc -c <"$report") * $1 / once))
for _ in $(seq $(($1 / once + 1))); do cat "$report"; done | head -c "$bytes" || [ $? = 141 ]
