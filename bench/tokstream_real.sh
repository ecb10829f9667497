#!/usr/bin/env bash
# bench/tokstream_real.sh [BUILD [options of tokstream_real.py]]: streams of tokens through linkemu,
# by the kernel's TCP and by tokstream-send, beside the simulator. 125 where there can be no link.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(realpath "${1:-$here/../build-ci}")
shift || true
"$build/tools/linkemu" -- true || exit 125
exec python3 "$here/tokstream_real.py" "$build" "$@"
