#!/usr/bin/env bash
# make.sh [FOLDER]: make both adapters anew, with data and logs, in FOLDER (adapters.new), on two
# processor cores. Interrupted, the same command goes on where it was.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-adapters.new}
python3 "$here/make_data.py" "$folder/data"
# tune NAME ARGUMENTS...
tune() {
  local name=$1
  shift
  [ -d "$folder/$name" ] || kvtune -m smollm2 --compute f32 --threads 1 --rank 4 --alpha 16 --lr 0.002 --batch 4 \
    --seed 7 --dtype bf16 --log "$folder/$name.log" -f --state "$folder/$name.state" --state-every 8 "$@" \
    -o "$folder/$name" "$folder/data/$name.train.jsonl"
}
# Short answers out of a text; the lower half of the layers stays the base's.
tune short --layers 15:30 --steps 48 &
# A record of fixed fields; all layers.
tune record --steps 40 &
wait -n
wait
