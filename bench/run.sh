#!/usr/bin/env bash
# bench/run.sh [BUILD]: every figure of BENCHMARKS.md, one after another. A missed goal is said and
# does not stop the others; the exit status is then 1.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=${1:-$here/../build-ci}
missed=0
for script in container codec convert rans int8_dot clp startup ttft prefill blend blend_quality blend_levels share tokstream tokstream_load \
              tokstream_real rate_quality; do
  printf '\n== %s\n' "$script"
  "$here/$script.sh" "$build" || missed=1
done
exit $missed
