#!/usr/bin/env bash
# What a codec's bytes buy on your own text: its cache coded in many ways, and from each what the model
# expects of the text's end, beside what it expects from the raw cache.
#   examples/rate_quality.sh BUILD [TEXT [MODEL]]
# A row: bits a value of the cache, how much smaller than bf16, the Kullback-Leibler divergence of the
# next token (nats, mean), how often the likeliest token is the same, and the change of the text's
# negative log likelihood (nats a token). With a short text differences of a tenth are chance.
set -euo pipefail

build=${1:?usage: examples/rate_quality.sh BUILD [TEXT [MODEL]]}
text=$(realpath "${2:-$(dirname "$0")/data/report.txt}")
model=${3:-smollm2}
PATH="$(cd "$build" && pwd)/tools:$PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# The last tenth is what the model is asked for.
python3 - "$text" <<'PYTHON'
import sys
text = open(sys.argv[1], encoding="utf-8").read()
cut = text.rfind(" ", 0, len(text) * 9 // 10)
open("head.txt", "w", encoding="utf-8").write(text[:cut])
open("end.txt", "w", encoding="utf-8").write(text[cut:][:600])
PYTHON
kvprefill -q -m "$model" --importance head.txt -o raw.kv
ask() { kvgen -q -m "$model" --compute f32 --score end.txt --logits "$1.npy" "$1" >"$1.score"; }
ask raw.kv

row() { # name, kvencode's options
  local name=$1
  shift
  kvencode -q "$@" raw.kv -o coded.kvz 2>error || { printf '%-16s %s\n' "$name" "$(<error)"; return; }
  ask coded.kvz
  python3 - "$name" <<'PYTHON'
import array, json, math, os, re, sys

def logits(name):
    with open(name, "rb") as file:
        size = int.from_bytes(file.read(10)[8:], "little")
        rows, width = map(int, re.search(rb"\((\d+), (\d+)\)", file.read(size)).groups())
        values = array.array("f", file.read())
    return [values[i * width : (i + 1) * width] for i in range(rows)]

def log_sum(row):
    top = max(row)
    return top + math.log(sum(math.exp(value - top) for value in row))

def nll(name):
    score = json.load(open(name))
    return score["nll"] / score["tokens"]

divergence = same = 0
pairs = list(zip(logits("raw.kv.npy"), logits("coded.kvz.npy")))
for raw, coded in pairs:
    a, b = log_sum(raw), log_sum(coded)
    divergence += sum(math.exp(x - a) * ((x - a) - (y - b)) for x, y in zip(raw, coded))
    same += max(range(len(raw)), key=raw.__getitem__) == max(range(len(coded)), key=coded.__getitem__)
raw_bytes, bytes_ = os.path.getsize("raw.kv"), os.path.getsize("coded.kvz")
print(f"{sys.argv[1]:16} {16 * bytes_ / raw_bytes:6.2f} {raw_bytes / bytes_:6.1f}x "
      f"{divergence / len(pairs):9.5f} {100 * same / len(pairs):6.1f}% "
      f"{nll('coded.kvz.score') - nll('raw.kv.score'):+8.4f}")
PYTHON
  rm -f coded.*
}
printf '%-16s %6s %7s %9s %7s %8s\n' codec bits smaller KLD top-1 NLL
row lossless --lossless
for level in 1 2 3 4; do row "level $level" -l $level; done
row 'KLD <= 0.01' --max-kld 0.01
for level in 1 2 3 4; do row "ecsq $level" --codec ecsq -l $level; done
row q8_0 --codec q8_0
row q4_0 --codec q4_0
row 'KIVI 4 bits' --codec kivi --bits 4
for level in 3 5; do row "CacheGen code $level" --codec cachegen-code -l $level; done
