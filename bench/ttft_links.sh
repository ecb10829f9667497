#!/usr/bin/env bash
# bench/ttft_links.sh [BUILD]: time to the first token of a question behind a text of 4,096 tokens, in
# a process that has the model, when text or cache come over links of several rates: the text, its
# cache in bf16, lossless, and at levels 1 to 3. A table of medians, the least of each rate in bold,
# and each form's bytes. The levels need profiles: `make -f Makefile.shortcuts profiles`; without them
# those of level 2 are used.
#   KVTOOLS_BENCH_ROUNDS  default 5
#   KVTOOLS_BENCH_GBPS    default 0.1,1,10,40,100,0 (0: the file itself, in the page cache)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:-build}")
export PATH=$build/tools:$PATH KVTOOLS_MODELS=${KVTOOLS_MODELS:-$root/.deps/models}
rates=${KVTOOLS_BENCH_GBPS:-0.1,1,10,40,100,0}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

"$root/bench/text.sh" 4096 >text
kvprefill -q -m smollm2 --importance text -o bf16
kvencode --lossless bf16 -o lossless
for level in 1 2 3; do kvencode -l $level bf16 -o level-$level; done
"$build/tests/ttft_bench" smollm2 text 'Question: Who was the engineer of the lighthouse? Answer:' \
  "${KVTOOLS_BENCH_ROUNDS:-5}" "$rates" bf16 lossless level-1 level-2 level-3 >taken
python3 - "$rates" <<'PYTHON'
import collections, os, statistics, sys
rates, times = sys.argv[1].split(","), collections.defaultdict(list)
for line in open("taken"):
    rate, form, ms = line.split()
    times[rate, form].append(float(ms))
forms = ["text", "bf16", "lossless", "level-1", "level-2", "level-3"]
median = {key: statistics.median(values) for key, values in times.items()}
print("| ms, by Gbit/s | bytes | " + " | ".join(r if r != "0" else "file" for r in rates) + " |")
print("|---" * (len(rates) + 2) + "|")
for form in forms:
    cells = []
    for rate in rates:
        best = min(median[rate, f] for f in forms) == median[rate, form]
        cells.append(f"**{median[rate, form]:.0f}**" if best else f"{median[rate, form]:.0f}")
    print(f"| {form} | {os.path.getsize(form):,} | " + " | ".join(cells) + " |")
spread = max((max(v) - min(v)) / statistics.median(v) for v in times.values())
print(f"\nA cell's {len(next(iter(times.values())))} rounds spread by {spread:.0%} of its median at most.")
PYTHON
