#!/usr/bin/env bash
# bench/clp.sh [BUILD] [--profile FILE.kvp] [FILE.kv]: the codec clp. One core, warm, stage by stage,
# for each instruction set, beside its limit; the lossless codec, zstd -3 and torchac (where
# setup/setup.sh bench has installed it); then whole runs of kvdecode and kvencode on all cores
# beside the prefill of the same 2,048 tokens, which should take 8 times as long as kvdecode: exit
# status 1 if not. 125 without a profile of the model for level 2, --profile or one that kvencode
# finds.
#   KVTOOLS_BENCH_ROUNDS  default 7
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build
[ -n "${1:-}" ] && [ -d "$1" ] && { build=$(realpath "$1"); shift; }
profile='' file=''
while [ $# -gt 0 ]; do
  case $1 in
    --profile) profile=$(realpath "$2"); shift 2 ;;
    *) file=$(realpath "$1"); shift ;;
  esac
done
rounds=${KVTOOLS_BENCH_ROUNDS:-7}
export PATH=$build/tools:$PATH KVTOOLS_MODELS=${KVTOOLS_MODELS:-$root/.deps/models}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
[ -z "$profile" ] || export KVTOOLS_PROFILES=$profile

# The example's text again and again, cut to 2,048 tokens.
for _ in 1 2; do cat "$root/examples/data/report.txt"; done >text.txt
if [ -z "$file" ]; then
  kvprefill -q -m smollm2 --dtype bf16 --importance text.txt | kvcat --tokens 0:2048 >report.kv
  file=$work/report.kv
fi
sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1
"$build/tests/clp_bench" "$file" "$rounds" ${profile:+"$profile"}
missed=0
python=$root/.deps/peers/bin/python
if "$python" -c 'import torchac' >/dev/null 2>&1; then
  PATH=$(dirname "$python"):$PATH "$python" "$root/bench/torchac_speed.py" 2>/dev/null | tail -1
fi

# Whole runs, the middle of the rounds, in ms.
runs() {
  for _ in $(seq "$rounds"); do
    start=$(date +%s%N)
    "$@" >/dev/null
    echo $((($(date +%s%N) - start) / 1000))
  done | sort -n | awk '{ n[NR] = $1 / 1e3 } END { printf "%.0f", n[int((NR + 1) / 2)] }'
}
kvencode -q -l 2 "$file" -o small.kvz
tokens=$(kvinfo --tokens "$file" | wc -l)
"$root/bench/text.sh" "$tokens" >same.txt
echo x >one.txt
rounds=3
load=$(runs kvprefill -q -m smollm2 one.txt)
prefill=$(runs kvprefill -q -m smollm2 same.txt)
rounds=9
decode=$(runs kvdecode -q small.kvz)
encode=$(runs kvencode -q -l 2 "$file")
start=$(runs kvdecode --version)
awk -v cores="$(nproc)" -v t="$tokens" -v p=$((prefill - load)) -v d="$decode" -v e="$encode" -v s="$start" '
  BEGIN {
    printf "\n| whole runs on %d cores, %d tokens, ms | | of prefill |\n|---|---|---|\n", cores, t
    printf "| kvprefill, loading left out | %d | 1.0x |\n", p
    printf "| kvdecode, with the profile (start alone %d) | %d | %.1fx |\n", s, d, p / d
    printf "| kvencode -l 2, with the profile | %d | %.1fx |\n", e, p / e
    exit p < 8 * d
  }' || missed=1
exit $missed
