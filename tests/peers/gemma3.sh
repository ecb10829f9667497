#!/bin/sh
# gemma3.sh PROBE TOKENIZE [--long]: gemma3.py in the peers' environment; 125 (skipped) without it,
# the second model or the shared texts.
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$root/.deps/peers/bin/python
model=$root/.deps/models/gemma3.gguf
data=$root/../shared/data
if ! "$python" -c 'import torch, transformers, gguf, accelerate' 2>/dev/null; then
  echo "SKIPPED: no $python with torch, transformers, gguf and accelerate" >&2
  exit 125
fi
for needed in "$model" "$data/text/longchat.jsonl"; do
  [ -e "$needed" ] || { echo "SKIPPED: no $needed; make -f Makefile.shortcuts second-model" >&2; exit 125; }
done
export OMP_WAIT_POLICY=passive
exec "$python" "$root/tests/peers/gemma3.py" "$1" "$2" "$model" "$data" "${3-}"
