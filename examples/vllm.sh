#!/usr/bin/env bash
# A folder of documents precomputed in one batch, then served by stock vLLM: each document is asked a
# question, and a table says how long its first token took behind vLLM's own prefill and from our
# caches.
#   examples/vllm.sh BUILD_DIR [FOLDER]
# FOLDER holds .txt files; without it the lighthouse's report and two manual pages. vLLM is that of
# tests/engines/setup.sh (6 GB); without it nothing is shown.
set -euo pipefail

build=${1:?usage: examples/vllm.sh BUILD_DIR [FOLDER]}
here=$(cd "$(dirname "$0")" && pwd)
engines=$here/../.deps/engines
if ! compgen -G "$engines/done-*" >/dev/null; then
  echo "vllm.sh: SKIPPED: there is no vLLM; tests/engines/setup.sh installs it (6 GB)" >&2
  exit 0
fi
PATH="$(cd "$build" && pwd)/tools:$PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ $# -gt 1 ]; then
  documents=$(realpath "$2")
else
  documents=$work/documents
  mkdir "$documents"
  cp "$here/data/report.txt" "$documents/"
  for page in kvconvert.1 kvencode.1; do sed 's/^\.[A-Z][a-z] //' "$here/../man/$page" >"$documents/$page.txt"; done
fi
cd "$work"
step() { printf '\n$ %s\n' "$*" >&2; }

# vLLM looks for whole blocks of 128 tokens, and a question of more than the rest of one would begin
# another: so of each document its whole blocks are kept, and the question follows them.
step "kvprefill -m smollm2 --out-dir caches *.txt"
(cd "$documents" && kvprefill -q -m smollm2 --out-dir "$work/caches" -- *.txt)
for cache in caches/*.kv; do
  name=$(basename "$cache" .kv)
  count=$(kvinfo --tokens "$cache" | wc -l)
  kvcat --tokens ":$((count / 128 * 128))" "$cache" >"$name.kv"
  step "kvconvert --to vllm -o store $name.kv"
  kvconvert --to vllm -o store "$name.kv"
  kvinfo --tokens "$name.kv" >"$name.ids"
done
step 'vLLM, with the store and without'
PYTHONDONTWRITEBYTECODE=1 VLLM_LOGGING_LEVEL=${VLLM_LOGGING_LEVEL:-ERROR} \
  "$engines/bin/python" -W ignore "$here/vllm_serve.py" "$engines/smollm2" store ./*.ids
