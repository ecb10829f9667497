#!/usr/bin/env bash
# bench/startup.sh [BUILD]: start-up time of each tool (hyperfine, --version), of kvinfo on a small
# cache, and of LibTorch by itself. Goals: 10 ms without LibTorch, and 50 ms beyond LibTorch's own
# with it. Exit status 1 when a tool is slower.
#   KVTOOLS_BENCH_ROUNDS  default 50
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:-build}")
rounds=${KVTOOLS_BENCH_ROUNDS:-50}
command -v hyperfine >/dev/null || { echo 'bench/startup.sh: install hyperfine' >&2; exit 125; }
results=$(mktemp) log=$(mktemp)
trap 'rm -f "$results" "$log"' EXIT

commands=()
for tool in kvinfo kvcat kvencode kvdecode tokstream-sim kvprefill kvgen kvcalibrate; do
  [ -x "$build/tools/$tool" ] && commands+=(-n "$tool --version" "$build/tools/$tool --version")
done
[ -x "$build/tests/torch_start" ] && commands+=(-n 'LibTorch' "$build/tests/torch_start")
commands+=(-n 'kvinfo tiny.kv' "$build/tools/kvinfo $root/tests/golden/v1/tiny.kv")
hyperfine -N --style none --warmup 5 --runs "$rounds" --output null --export-json "$results" \
  "${commands[@]}" >"$log" 2>&1 || { cat "$log"; exit 1; }
printf '%s rounds; %s, %s CPUs\n\n' "$rounds" \
  "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" "$(nproc)"
python3 - "$results" <<'PYTHON'
import json
import sys
runs = json.load(open(sys.argv[1]))["results"]
torch = sum(1000 * run["median"] for run in runs if run["command"] == "LibTorch")
slow = False
print("| start-up, ms | median | fastest | slowest |\n|---|---|---|---|")
for run in runs:
    median, least, most = (1000 * run[key] for key in ("median", "min", "max"))
    print(f"| {run['command']} | {median:.1f} | {least:.1f} | {most:.1f} |")
    models = run["command"].split()[0] in ("kvprefill", "kvgen", "kvcalibrate")
    slow |= run["command"] != "LibTorch" and median > (torch + 50 if models else 10)
sys.exit(slow)
PYTHON
