#!/bin/sh
# adapters.sh PROBE KVTUNE: adapters.py in the peers' environment; 125 (skipped) without it.
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$root/.deps/peers/bin/python
model=$root/.deps/models/smollm2.gguf
if ! "$python" -c 'import torch, transformers, gguf, peft' 2>/dev/null; then
  echo "SKIPPED: no $python with torch, transformers, gguf and peft" >&2
  exit 125
fi
# LibTorch's threads spin for milliseconds, which is a standstill where others use the cores.
export OMP_WAIT_POLICY=passive
if [ -f "$model" ]; then
  set -- "$1" "$2" --gguf "$model"
else
  echo "without the embedded model: '$model' is absent" >&2
fi
exec "$python" "$root/tests/peers/adapters.py" "$@"
