#!/usr/bin/env bash
# bench/convert.sh [BUILD]: throughput of kvconvert to each layout and back, beside `cp` of the same
# cache in the same run, both to new files in memory. Exit status 1 below 60 % of the peer on the way out.
#   KVTOOLS_BENCH_FOLDER  where the files go (default: /dev/shm)
#   KVTOOLS_BENCH_ROUNDS  default 5
set -euo pipefail
build=$(realpath "${1:-build}")
rounds=${KVTOOLS_BENCH_ROUNDS:-5}
work=$(mktemp -d "${KVTOOLS_BENCH_FOLDER:-/dev/shm}/kv_bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
kvconvert=$build/tools/kvconvert
"$build/tests/synthetic_kv" 16 8192 >"$work/in.kv"
bytes=$(stat -c %s "$work/in.kv")
layouts=(transformers vllm llamacpp npy)

# Removing what the round before left is not measured.
timed() {
  local name=$1 start
  shift
  rm -rf "$work/out" "$work/store"
  start=$(date +%s%N)
  "$@"
  echo "$name $(($(date +%s%N) - start))" >>"$work/times"
}
dtype() { case $1 in npy) echo f16 ;; *) echo bf16 ;; esac; }
for ((round = 0; round < rounds; ++round)); do
  timed cp cp "$work/in.kv" "$work/out"
  for layout in "${layouts[@]}"; do
    timed "$layout" "$kvconvert" -q --to "$layout" --dtype "$(dtype "$layout")" -o "$work/out" "$work/in.kv"
  done
done

middle=$(((rounds + 1) / 2))
median() { awk -v n="$1" '$1 == n { print $2 }' "$work/times" | sort -n | sed -n "${middle}p"; }
peer=$(median cp)
failed=0
printf '%s bytes in %s, %s rounds, medians; %s, %s CPUs\n\n' "$bytes" "${work%/*}" "$rounds" \
  "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" "$(nproc)"
printf '| %-36s | GB/s | to cp |\n|---|---|---|\n' command
for name in cp "${layouts[@]}"; do
  case $name in cp) title='cp' ;; *) title="kvconvert --to $name --dtype $(dtype "$name")" ;; esac
  ns=$(median "$name")
  printf '| %-36s | %s | %s |\n' "$title" "$(awk -v b="$bytes" -v t="$ns" 'BEGIN { printf "%.2f", b / t }')" \
    "$(awk -v p="$peer" -v t="$ns" 'BEGIN { printf "%.2f", p / t }')"
  awk -v p="$peer" -v t="$ns" 'BEGIN { exit !(p / t < 0.6) }' && failed=1
done
exit $failed
