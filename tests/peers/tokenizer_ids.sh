#!/usr/bin/env bash
# tokenizer_ids.sh TOKENIZE: our token ids beside Hugging Face's. Needs the peers' environment
# (make -f Makefile.shortcuts peers) and the embedded model; skipped, exit 125, without them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
python=$root/.deps/peers/bin/python
model=$root/.deps/models/smollm2.gguf
for needed in "$python" "$model"; do
  [ -e "$needed" ] || { echo "skipped: no $needed; make -f Makefile.shortcuts peers"; exit 125; }
done
exec "$python" "$here/tokenizer_ids.py" "$1" "$model" "$root/../shared/data"
