#!/usr/bin/env bash
# bench/share.sh [BUILD]: caches of the embedded model used by its two fine-tunes in examples/adapters.
# For each: 96 texts that share nothing with those trained on, half of them (whole topics) to choose
# groups of layers by, half to tell what they are worth; then the time of recomputing the groups for a
# long text. Exit status 1 when a goal for the fine-tune of the upper layers is missed: 90 % of full
# reuse's divergence removed with 10 of 30 layers at 2.5 times a prefill's speed, exact with 15, and with
# a reader of 50 MB/s a shared cache within 1.15 times the longer of reading and recomputing.
#   KVTOOLS_BENCH_ROUNDS  default 5, of times
#   KVTOOLS_SHARE_WORK    a folder that keeps what was measured, to go on from
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:-build}")
rounds=${KVTOOLS_BENCH_ROUNDS:-5}
export PATH=$build/tools:$PATH KVTOOLS_MODELS=${KVTOOLS_MODELS:-$root/.deps/models}
work=${KVTOOLS_SHARE_WORK:-$(mktemp -d)}
[ -n "${KVTOOLS_SHARE_WORK:-}" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
work=$(realpath "$work")
cd "$work"
python3 "$root/examples/adapters/make_data.py" data

# profile NAME FROM TO ANSWER: NAME.json, with a group of layers a point.
profile() {
  [ -e "$1.json" ] || kvdiff-layers --profile --compute f32 -q -m "$2" -m "$3" --answer "$4" --state "$1.state" \
    --plot "$1.svg" -f -o "$1.json" "data/${1%.base}.profile.jsonl" >"$1.txt"
}
for name in short record; do
  answer=$([ $name = short ] && echo 12 || echo 48)
  profile $name smollm2 "smollm2+$root/examples/adapters/$name" "$answer"
  # The base's own answers: two models that are the same.
  profile $name.base smollm2 smollm2 "$answer"
done

# seconds GROUP: what recomputing it takes, the middle of the rounds.
"$root/bench/text.sh" 1500 >long.txt
times() {
  local group=$1 first=${1%%:*} i hidden=()
  shift
  [ "$first" = 0 ] || hidden=(--hidden "$first")
  kvprefill -q -m smollm2 "${hidden[@]}" long.txt -f -o long.kv
  for ((i = 0; i < rounds; ++i)); do
    kvshare -q -m smollm2+"$root/examples/adapters/short" --layers "$group" --stats "$@" long.kv -f -o shared.kv 2>&1
  done
}
for group in 0:30 $(python3 -c 'import json
groups = {(p["first"], p["end"]) for n in ("short", "record") for p in json.load(open(n + ".json"))["frontier"]}
print(*(f"{a}:{b}" for a, b in sorted(groups) if b > a and (a, b) != (0, 30)))'); do
  [ -s "times.$group" ] || times "$group" >"times.$group"
done
group=$(python3 -c 'import json
best = [p for p in json.load(open("short.json"))["frontier"] if p["end"] - p["first"] <= 10][-1]
print("{}:{}".format(best["first"], best["end"]))')
[ -s overlap ] || times "$group" --read-rate 50M >overlap
python3 "$root/bench/share_table.py" "$group"
