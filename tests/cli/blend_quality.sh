#!/usr/bin/env bash
# blend_quality.sh TOOLS DATA SOURCE: that blending is worth it, on 16 fixed items of Musique with six
# chunks of about 55 tokens, in f32. What was measured when the gates were set: recovery 0.447, hkvd to
# random 0.578, KLD 0.1500, top-1 0.886.
source "$(dirname "$0")/lib.sh"
has_model || skip 'no model'
source_dir=${3:?the folder with the sources}
texts=${KVTOOLS_SHARED:-$source_dir/../shared}/data/text/musique.jsonl
[ -e "$texts" ] || skip "no texts in $texts"
# Without answers nothing is generated behind recipes, which would take most of the time.
python3 "$source_dir/bench/blend_prompts.py" "$texts" 16 6 220 | sed 's/, "answers": .*}$/}/' >prompts.jsonl
[ "$(wc -l <prompts.jsonl)" = 16 ] || fail 'not 16 prompts'
kveval -q -m smollm2 --compute f32 --dtype f32 -n 16 --special --json \
  --question $'\nQuestion: {}\nAnswer in a few words.<|im_end|>\n<|im_start|>assistant\n' \
  --recipe 'kvblend --select none' --recipe 'kvblend -r 15%' --recipe 'kvblend --select random -r 15%' \
  --recipe 'kvblend -r 30%' prompts.jsonl >report.json
python3 - <<'PYTHON' || fail 'a gate'
import json
recipes = {r["recipe"]: r for r in json.load(open("report.json"))["recipes"]}
reuse, half, random, more = (recipes[f"kvblend {name}"] for name in
                             ("--select none", "-r 15%", "--select random -r 15%", "-r 30%"))
kld = lambda r: r["kld"]["value"]
good = True
def gate(name, value, holds):
    global good
    good = good and holds
    print(f"{'ok' if holds else 'FAILED'}: {name} {value:.4f}")
gate("recovery of reuse's KLD, at least 0.40:", 1 - kld(half) / kld(reuse), kld(half) <= 0.60 * kld(reuse))
gate("KLD to random's, at most 0.65:", kld(half) / kld(random), kld(half) <= 0.65 * kld(random))
gate("KLD, 0.150 and 6 % at most:", kld(half), kld(half) <= 1.06 * 0.150)
gate("top-1, at least 0.87:", half["top1"]["value"], half["top1"]["value"] >= 0.87)
gate("KLD at 30 %, less than at 15 %:", kld(more), kld(more) < kld(half))
gate("surely less than reuse's, at most:", half["versus"]["kld_ratio"]["high"], half["versus"]["kld_ratio"]["high"] < 1)
raise SystemExit(not good)
PYTHON
