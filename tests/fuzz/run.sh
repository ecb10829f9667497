#!/usr/bin/env bash
# run.sh TARGET CORPUS [SECONDS]: the stored corpus, then new inputs for KVTOOLS_FUZZ_SECONDS, or
# else SECONDS, or else 60. What it finds lies beside the target: new inputs in NAME.corpus, the
# culprit of a crash in NAME.crash-*.
set -euo pipefail
target=$1 corpus=$2 seconds=${KVTOOLS_FUZZ_SECONDS:-${3:-60}}
found=$target.corpus
mkdir -p "$found"
# 64 MiB is what a hostile file may make a tool take; the sanitizers and the fuzzer need the rest.
exec "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
  -malloc_limit_mb=64 -artifact_prefix="$target.crash-" -print_final_stats=1 -verbosity=0 \
  "$found" "$corpus"
