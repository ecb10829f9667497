#!/usr/bin/env bash
# bench/container.sh [BUILD]: throughput of reading with verification and of writing raw frames,
# beside `cat FILE | xxhsum -H3` in the same run, and memory over a 4 GB stream. Exit status 1 below
# 70 % of the peer or when memory grows with the file.
#   KVTOOLS_BENCH_FOLDER  where the 4 GB file goes (default: /dev/shm if it has room, else /tmp)
#   KVTOOLS_BENCH_ROUNDS  default 5
# shellcheck disable=SC2002,SC2317  # pipes are what is measured; commands are called by name
set -euo pipefail

build=$(realpath "${1:-build}")
rounds=${KVTOOLS_BENCH_ROUNDS:-5}
folder=${KVTOOLS_BENCH_FOLDER:-}
if [ -z "$folder" ]; then
  free_kib=$(df --output=avail -k /dev/shm 2>/dev/null | tail -1 || echo 0)
  ram_kib=$(awk '/MemAvailable/ { print $2 }' /proc/meminfo)
  folder=/tmp
  if [ "$free_kib" -gt 6000000 ] && [ "$ram_kib" -gt 8000000 ]; then folder=/dev/shm; fi
fi
work=$(mktemp -d "$folder/kv_bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
big=$work/big.kv small=$work/small.kv
kvinfo=$build/tools/kvinfo kvcat=$build/tools/kvcat

"$build/tests/synthetic_kv" 64 16384 >"$big"
"$build/tests/synthetic_kv" 4 16384 >"$small"
bytes=$(stat -c %s "$big")
cat "$big" >/dev/null  # into the page cache, whatever the folder is

peer() { cat "$big" | xxhsum -H3 - >/dev/null; }
check_file() { "$kvinfo" --check --quiet "$big"; }
check_pipe() { cat "$big" | "$kvinfo" --check --quiet -; }
copy_null() { "$kvcat" --no-history "$big" >/dev/null; }
copy_pipe() { "$kvcat" --no-history "$big" | cat >/dev/null; }
peer_two_pipes() { cat "$big" | cat | xxhsum -H3 - >/dev/null; }
pipe_to_pipe() { cat "$big" | "$kvcat" --no-history - | cat >/dev/null; }

names=(peer check_file check_pipe copy_null copy_pipe peer_two_pipes pipe_to_pipe)
titles=('cat FILE | xxhsum -H3 (the peer)' 'kvinfo --check FILE' 'cat FILE | kvinfo --check'
  'kvcat FILE >/dev/null' 'kvcat FILE | cat' 'cat FILE | cat | xxhsum -H3 (a peer)'
  'cat FILE | kvcat | cat')
for ((round = 0; round < rounds; ++round)); do
  for name in "${names[@]}"; do
    start=$(date +%s%N)
    "$name" >/dev/null
    echo "$name $(($(date +%s%N) - start))" >>"$work/times"
  done
done

# nth NAME N: the Nth smallest time of a command; $ for the largest.
nth() { awk -v n="$1" '$1 == n { print $2 }' "$work/times" | sort -n | sed -n "$2p"; }
gbs() { awk -v b="$bytes" -v t="$1" 'BEGIN { printf "%.2f", b / t }'; }
middle=$(((rounds + 1) / 2))
failed=0
printf '%s bytes in %s, %s rounds, median (slowest to fastest) GB/s; %s, %s CPUs\n\n' "$bytes" \
  "$folder" "$rounds" "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" "$(nproc)"
printf '| %-35s | %-19s | %-8s |\n|%s|%s|%s|\n' '' GB/s 'to peer' \
  ------------------------------------- --------------------- ----------
for i in "${!names[@]}"; do
  name=${names[$i]}
  ns=$(nth "$name" "$middle")
  case $name in peer*) peer_ns=$ns ;; esac  # those below are measured against it
  ratio=$(awk -v p="$peer_ns" -v t="$ns" 'BEGIN { printf "%.2f", p / t }')
  spread="$(gbs "$(nth "$name" '$')") to $(gbs "$(nth "$name" 1)")"
  printf '| %-35s | %-19s | %-8s |\n' "${titles[$i]}" "$(gbs "$ns") ($spread)" "${ratio}x"
  if awk -v r="$ratio" 'BEGIN { exit !(r < 0.7) }'; then failed=1; fi
done

# Peak memory in KiB of a command reading the file given on standard input.
peak() { local file=$1; shift
  cat "$file" | /usr/bin/time -v "$@" 2>&1 >/dev/null |
    sed -n 's/.*Maximum resident set size (kbytes): //p'; }
peak_file() { /usr/bin/time -v "$@" 2>&1 >/dev/null |
  sed -n 's/.*Maximum resident set size (kbytes): //p'; }
printf '\n| %-35s | %-12s | %-12s |\n|%s|%s|%s|\n' 'peak memory, MiB' '268 MB' '4.3 GB' \
  ------------------------------------- -------------- --------------
memory() { local title=$1 first=$2 second=$3
  printf '| %-35s | %-12s | %-12s |\n' "$title" $((first / 1024)) $((second / 1024))
  if [ "$second" -gt $((first + 16384)) ]; then failed=1; fi; }
memory 'cat FILE | kvinfo --check' "$(peak "$small" "$kvinfo" --check --quiet -)" \
  "$(peak "$big" "$kvinfo" --check --quiet -)"
memory 'cat FILE | kvcat' "$(peak "$small" "$kvcat" -)" "$(peak "$big" "$kvcat" -)"
memory 'kvinfo --check FILE' "$(peak_file "$kvinfo" --check --quiet "$small")" \
  "$(peak_file "$kvinfo" --check --quiet "$big")"
memory 'kvcat FILE' "$(peak_file "$kvcat" "$small")" "$(peak_file "$kvcat" "$big")"
exit $failed
