#!/usr/bin/env bash
# bench/prefill.sh [BUILD] [options of prefill.py]: prefill and decoding of the embedded model
# beside transformers and llama.cpp. Exit status 1 when a goal is missed; 125 without the peers.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:-$root/build}")
shift || true
python=$root/.deps/peers/bin/python
if ! "$python" -c 'import torch, transformers, gguf, llama_cpp' 2>/dev/null; then
  echo "SKIPPED: no $python with transformers and llama_cpp; run setup/setup.sh bench" >&2
  exit 125
fi
exec "$python" "$root/bench/prefill.py" "$build/tests/prefill_bench" \
  "$root/.deps/models/smollm2.gguf" "$@"
