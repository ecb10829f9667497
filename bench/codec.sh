#!/usr/bin/env bash
# bench/codec.sh [BUILD [FILE.kv]]: ratio and speed a core of the lossless codec beside zstd -3 and
# -19 on the same raw tensors, and the tools' start-up. Without a file the embedded model's cache of
# examples/data/report.txt in bf16.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:-$source/build}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
file=${2:-$work/report.kv}
if [ $# -lt 2 ]; then
  export KVTOOLS_MODELS=${KVTOOLS_MODELS:-$source/.deps/models}
  "$build/tools/kvprefill" --quiet -m smollm2 --dtype bf16 "$source/examples/data/report.txt" \
    -o "$file"
fi
sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1
"$build/tests/codec_bench" "$file" "${KVTOOLS_BENCH_ROUNDS:-9}"
"$build/tools/kvencode" --lossless --no-history "$file" -o "$work/coded.kvz"
printf '\nwhole file: %s -> %s bytes\n' "$(stat -c %s "$file")" "$(stat -c %s "$work/coded.kvz")"
for tool in kvencode kvdecode; do
  for _ in $(seq 20); do
    start=$(date +%s%N)
    "$build/tools/$tool" --version >/dev/null
    echo $(($(date +%s%N) - start))
  done | sort -n | awk -v t=$tool '{ n[NR] = $1 / 1e6 } END {
    printf "start-up of %s: median %.1f ms (%.1f to %.1f), with fork\n", t, n[10], n[1], n[20] }'
done
