#!/bin/sh
# dequantize.sh PROBE: dequantize.py in the peers' environment; 125 (skipped) without it.
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$root/.deps/peers/bin/python
if ! "$python" -c 'import gguf' 2>/dev/null; then
  echo "SKIPPED: no $python with gguf; make -f Makefile.shortcuts peers" >&2
  exit 125
fi
exec "$python" "$root/tests/peers/dequantize.py" "$@"
