#!/bin/sh
# model_reference.sh PROBE: model_reference.py in the peers' environment; 125 (skipped) without it.
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$root/.deps/peers/bin/python
model=$root/.deps/models/smollm2.gguf
text=$root/../shared/data/text/longchat.jsonl
if ! "$python" -c 'import torch, transformers, gguf' 2>/dev/null; then
  echo "SKIPPED: no $python with torch, transformers and gguf" >&2
  exit 125
fi
# LibTorch's threads spin for milliseconds, which is a standstill where others use the cores.
export OMP_WAIT_POLICY=passive
set -- "$1"
if [ -f "$model" ] && [ -f "$text" ]; then
  set -- "$1" --gguf "$model" --text "$text"
else
  echo "without the embedded model: '$model' or '$text' is absent" >&2
fi
exec "$python" "$root/tests/peers/model_reference.py" "$@"
