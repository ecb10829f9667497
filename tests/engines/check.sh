#!/usr/bin/env bash
# check.sh [BUILD]: every engine that a processor runs answers from our caches; what prove.py prints.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-$root/build-ci}
prove=$root/tests/engines/prove.py
export PYTHONDONTWRITEBYTECODE=1
for engine in transformers llamacpp; do
  "$root/.deps/peers/bin/python" "$prove" "$engine" "$build/tools"
done
"$root/tests/engines/setup.sh"
"$root/.deps/engines/bin/python" "$prove" vllm "$build/tools" --folder "$root/.deps/engines/smollm2"
