#!/usr/bin/env bash
# bench/tokstream_load.sh [BUILD [STREAMS...]]: one tokstream-send on one core serves STREAMS (2000
# 3000 4000 6000 8000) streams of 20 tokens a second, sealed, to as many receivers on another core,
# which lose 5 % of the packets both ways. For each: how long tokens took, stalls, and how much of its
# core the sender used. A gap that loss makes over 200 ms is a stall too; so 2000 streams come without
# loss as well. Exit status 1 when 2000 streams stall for more than a ten-thousandth of their time.
# A core's use is processor time over the seconds in which tokens come.
#   TOKSTREAM_SECONDS  20
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:-$root/build-ci}")
shift || true
[ $# -gt 0 ] || set -- 2000 3000 4000 6000 8000
work=$(mktemp -d)
send='' missed=0
trap '[ -z "$send" ] || kill "$send" 2>/dev/null; rm -rf "$work"' EXIT
head -c 32 /dev/urandom | base64 >"$work/key"
last=$(($(nproc) - 1))

one() { # STREAMS LOSS
  rm -f "$work/tokens"
  mkfifo "$work/tokens"
  taskset -c 0 "$build/tools/tokstream-send" --jsonl -n "$1" -k "$work/key" --stats \
    --listen 127.0.0.1:0 <"$work/tokens" 2>"$work/send" & send=$!
  exec 3>"$work/tokens"
  local port=''
  while [ -z "$port" ]; do
    sleep 0.02
    port=$(sed -nE 's/.*listening on .*:([0-9]+)$/\1/p' "$work/send")
  done
  local status=0
  taskset -c "$last" "$build/tests/tokstream_load" "$port" "$1" 20 "${TOKSTREAM_SECONDS:-20}" \
    "$2" "$work/key" >&3 2>"$work/load" 3>&- & local load=$!
  exec 3>&-
  # Its processor time, until it ends.
  local ticks=0 now
  while now=$(awk '{ print $14 + $15 }' "/proc/$send/stat" 2>/dev/null); do
    ticks=$now
    sleep 0.2
  done
  wait $load || status=$?
  wait "$send" || status=$?
  send=''
  [ $status = 0 ] || { cat "$work/send" "$work/load" >&2; return 1; }
  python3 - "$2" "$ticks" "$(getconf CLK_TCK)" "${TOKSTREAM_SECONDS:-20}" "$work/load" "$work/send" <<'PYTHON'
import json, sys
loss, ticks, hertz, took = (float(word) for word in sys.argv[1:5])
load, send = (json.loads(open(name).read().splitlines()[-1]) for name in sys.argv[5:])
d = load["delay_ms"]
print(f"| {load['streams']} | {100 * loss:g} % | {d['p50']:.1f} | {d['p99']:.1f} | {d['p999']:.1f} | "
      f"{d['max']:.0f} | {load['stalls']} of {load['tokens']} | {100 * ticks / hertz / took:.0f} % | "
      f"{100 * load['load_cpu_s'] / took:.0f} % | {send['latest_ms']:.0f} |")
sys.exit(load["stalled_share"] > 1e-4)
PYTHON
}

echo '| streams | loss | delay p50, ms | p99 | p99.9 | most | stalls | core of the sender | of the receivers | latest, ms |'
echo '|---|---|---|---|---|---|---|---|---|---|'
for streams; do
  if [ "$streams" = 2000 ]; then one 2000 0 || missed=1; fi
  if ! one "$streams" 0.05 && [ "$streams" = 2000 ]; then missed=1; fi
done
exit $missed
