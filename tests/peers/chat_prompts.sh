#!/bin/sh
# chat_prompts.sh TOKENIZE: chat_prompts.py in the peers' environment; 125 (skipped) without it.
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$root/.deps/peers/bin/python
if ! "$python" -c 'import transformers' 2>/dev/null; then
  echo "SKIPPED: no $python with transformers; make -f Makefile.shortcuts peers" >&2
  exit 125
fi
exec "$python" "$root/tests/peers/chat_prompts.py" "$@"
