#!/usr/bin/env bash
# links.sh TOOL...: tools that run no model start in two milliseconds; LibTorch would cost them 300,
# and Highway's library two, for timing the processor's clock.
set -euo pipefail
status=0
for tool in "$@"; do
  if ldd "$tool" | grep -E 'libtorch|libc10|libcudart|libcuda|libhwy'; then
    echo "$tool links LibTorch, CUDA or Highway's library; see kv_tool() in tools/CMakeLists.txt" >&2
    status=1
  fi
done
exit $status
