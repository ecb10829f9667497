#!/usr/bin/env bash
# Makes report.txt, report.kv and report.kvz in the data folder.
mkdir -p "$2"
source "$(dirname "$0")/lib.sh"
head -n 9 "$tests/../examples/data/report.txt" >"$data/report.txt"
if has_model; then
  kvprefill -m smollm2 --no-history "$data/report.txt" -f -o "$data/report.kv"
else
  echo "no model: noise stands in for report.kv"
  "$tools/../tests/synthetic_kv" 8 204 >"$data/report.kv"
fi
kvencode --lossless --no-history "$data/report.kv" -f -o "$data/report.kvz"
