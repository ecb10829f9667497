#!/usr/bin/env bash
# What the user of a chat sees in a moving car: the embedded model's tokens, as fast as it made them,
# over the network of the Irish 5G drive, by TCP and by Chatterbox. First simulated, with a table and
# a drawing; then for real through linkemu, where there can be a link: Server-Sent Events over the
# kernel's TCP, and tokstream-send with tokstream-recv.
#   examples/streaming.sh BUILD_DIR [DRAWING.svg]
# The drive is ../shared/data/traces/5g-driving-download.csv, or $KVTOOLS_DRIVE; without it outages
# of 500 ms in which 13 % of all packets are lost stand in for it.
set -euo pipefail

build=${1:?usage: examples/streaming.sh BUILD_DIR [DRAWING.svg]}
drawing=$(realpath "${2:-streaming.svg}")
here=$(cd "$(dirname "$0")" && pwd)
PATH="$(cd "$build" && pwd)/tools:$PATH"
peer=$here/../bench/tokstream_peer.py
drive=${KVTOOLS_DRIVE:-$here/../../shared/data/traces/5g-driving-download.csv}
if [ -e "$drive" ]; then
  loss=trace:$(realpath "$drive"),100
else
  loss=bursts:500,0.13,0.8
  echo "no $drive: $loss stands in for the drive" >&2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
step() { printf '\n$ %s\n' "$*" >&2; }

prompt='The keeper climbed the stairs of the lighthouse and began to tell the story of the storm.'
step "kvgen -m smollm2 -n 400 --trace tokens.jsonl '$prompt'"
kvgen -m smollm2 -n 400 --trace tokens.jsonl "$prompt" >text
python3 - <<'PYTHON'
import json
lines = [json.loads(line) for line in open("tokens.jsonl", encoding="utf-8")]
seconds = (lines[-1]["t_ns"] - lines[0]["t_ns"]) / 1e9
print(f"{len(lines)} tokens in {seconds:.1f} s")
PYTHON

step "tokstream-sim --trace tokens.jsonl --payload text --loss $loss --plot $drawing"
tokstream-sim --trace tokens.jsonl --payload text --loss "$loss" --streams 60 --seeds 10 \
  --schemes tcp,rack,duplicate:2,chatterbox,chatterbox+timer --plot "$drawing" -f

status=0
linkemu -- true 2>refused || status=$?
if [ $status != 0 ]; then
  echo "LEFT OUT, the same for real: $(<refused)" >&2
  exit 0
fi
head -c 32 /dev/urandom >key
printf '\n%-24s %8s %10s %8s %8s %7s\n' 'for real, path' 'first s' 'stalled %' 'p99 ms' 'most ms' 'last s'
python3 - <<'PYTHON'
import json
t = [json.loads(line)["t_ns"] / 1e6 for line in open("tokens.jsonl", encoding="utf-8")]
gaps = sorted(b - a for a, b in zip(t, t[1:]))
print(f"{'as the model made them':24} {0:8.1f} {100 * sum(g for g in gaps if g > 200) / (t[-1] - t[0]):10.1f} "
      f"{gaps[len(gaps) * 99 // 100]:8.0f} {gaps[-1]:8.0f} {(t[-1] - t[0]) / 1e3:7.1f}")
PYTHON
for seed in 1 2 3; do
  linkemu --loss "$loss" --seed $seed --far "python3 $peer serve tokens.jsonl" -- \
    python3 "$peer" fetch >sse.json
  linkemu --loss "$loss" --seed $seed \
    --far "python3 $peer speak tokens.jsonl | tokstream-send -q -l 10.77.0.2:4711 -k key" -- \
    bash -c "set -o pipefail; tokstream-recv 10.77.0.2:4711 -k key | tee got | python3 $peer clock" \
    >chatterbox.json
  python3 "$peer" row "TCP, $seed" tokens.jsonl sse.json
  python3 "$peer" row "chatterbox+timer, $seed" tokens.jsonl chatterbox.json
  python3 - <<'PYTHON' || { echo 'another text arrived' >&2; exit 1; }
import json, sys
said = "".join(json.loads(line)["text"] for line in open("tokens.jsonl", encoding="utf-8"))
sys.exit(open("got", encoding="utf-8").read() != said)
PYTHON
done
echo "the drawing: $drawing"
