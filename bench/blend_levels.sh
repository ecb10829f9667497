#!/usr/bin/env bash
# bench/blend_levels.sh [BUILD [WORK]]: compression and blending together. The chunks of Musique items are
# coded at each level of kvencode and blended at each share; every cell is the KL divergence of both from
# a full prefill, with its 95 % interval over items, and the bytes of the coded chunks. Goes on where it
# was killed. Exit status 125 without the texts ($KVTOOLS_SHARED/data/text) or the model.
#   KVTOOLS_BENCH_ITEMS       default 16
#   KVTOOLS_BENCH_CHARACTERS  of a chunk (default: 1000, about 250 tokens)
#   KVTOOLS_BENCH_LEVELS      default '1 2 3 4'
#   KVTOOLS_BENCH_SHARES      default '0 5% 15% 30% 100%'
#   KVTOOLS_BENCH_CODEC       default ecsq, which needs no profile
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:-build}")
work=${2:-$build/blend_levels}
texts=${KVTOOLS_SHARED:-$root/../shared}/data/text/musique.jsonl
read -ra levels <<<"${KVTOOLS_BENCH_LEVELS:-1 2 3 4}"
read -ra shares <<<"${KVTOOLS_BENCH_SHARES:-0 5% 15% 30% 100%}"
export PATH=$build/tools:$PATH KVTOOLS_MODELS=${KVTOOLS_MODELS:-$root/.deps/models}
[ -e "$texts" ] || { echo "SKIPPED: no $texts" >&2; exit 125; }
kvinfo -m smollm2 >/dev/null 2>&1 || { echo 'SKIPPED: no model smollm2' >&2; exit 125; }
mkdir -p "$work"
python3 "$root/bench/blend_prompts.py" "$texts" "${KVTOOLS_BENCH_ITEMS:-16}" 6 "${KVTOOLS_BENCH_CHARACTERS:-1000}" >"$work/prompts.jsonl"

recipes=()
for level in raw "${levels[@]}"; do
  for share in "${shares[@]}"; do
    coded="kvencode --codec ${KVTOOLS_BENCH_CODEC:-ecsq} -l $level | "
    [ "$level" != raw ] || coded=
    recipes+=(--recipe "${coded}kvblend -r $share")
  done
done
question=$'\nQuestion: {}\nAnswer in a few words.<|im_end|>\n<|im_start|>assistant\n'
kveval -m smollm2 --compute f32 --special --question "$question" --work "$work/results.jsonl" --json "${recipes[@]}" \
  "$work/prompts.jsonl" >"$work/levels.json"
python3 - "$work/levels.json" "${shares[@]}" <<'PYTHON'
import json
import sys
report = json.load(open(sys.argv[1]))
shares, recipes = sys.argv[2:], report["recipes"]
print(f"{report['prompts']} items of {report['tokens']:.0f} tokens, {report['predictions']} predictions; KLD\n")
print("| chunks | MB |" + "".join(f" r = {share} |" for share in shares))
print("|---" * (len(shares) + 2) + "|")
for at in range(0, len(recipes), len(shares)):
    row = recipes[at : at + len(shares)]
    name = row[0]["recipe"].split(" | ")
    cells = "".join(f" {c['kld']['value']:.3f} ({c['kld']['low']:.3f} to {c['kld']['high']:.3f}) |" for c in row)
    print(f"| {name[0] if len(name) > 1 else 'bf16'} | {row[0]['bytes'] / 1e6:.2f} |{cells}")
PYTHON
