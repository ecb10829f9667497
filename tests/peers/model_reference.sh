#!/bin/sh
# model_reference.sh PROBE MODEL [PROMPTS]: model_reference.py in the peers' environment with a model that
# set-up fetches: smollm2, with random ones of all families beside it, or gemma3, alone. 125 (skipped)
# without the environment, or without gemma3. KVTOOLS_PROMPTS overrides how many texts are continued.
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$root/.deps/peers/bin/python
model=$root/.deps/models/$2.gguf
text=$root/../shared/data/text/longchat.jsonl
if ! "$python" -c 'import torch, transformers, gguf' 2>/dev/null; then
  echo "SKIPPED: no $python with torch, transformers and gguf" >&2
  exit 125
fi
# LibTorch's threads spin for milliseconds, which is a standstill where others use the cores.
export OMP_WAIT_POLICY=passive
name=$2 prompts=${KVTOOLS_PROMPTS:-${3:-20}}
if [ -f "$model" ] && [ -f "$text" ]; then
  set -- "$1" --gguf "$model" --text "$text" --prompts "$prompts"
  [ "$name" = smollm2 ] || set -- "$@" --only-real
elif [ "$name" = smollm2 ]; then
  echo "without the embedded model: '$model' or '$text' is absent" >&2
  set -- "$1"
else
  echo "SKIPPED: '$model' or '$text' is absent; make -f Makefile.shortcuts second-model" >&2
  exit 125
fi
exec "$python" "$root/tests/peers/model_reference.py" "$@"
