#!/usr/bin/env bash
# bench/rans.sh [BUILD]: the entropy coder on one core, each target, beside htscodecs' 32-way rANS and
# zstd -1 on the same symbols. It prints ratios and checks no goal.
#   KVTOOLS_BENCH_ROUNDS  default 31
set -euo pipefail
build=$(realpath "${1:-build}")
sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1
"$build/tests/rans_bench" "${KVTOOLS_BENCH_ROUNDS:-31}"
