#!/usr/bin/env bash
# links.sh TOOL...: tools that run no model start in milliseconds; LibTorch would cost them 300.
set -euo pipefail
status=0
for tool in "$@"; do
  if ldd "$tool" | grep -E 'libtorch|libc10|libcudart|libcuda'; then
    echo "$tool links LibTorch or CUDA; see kv_tool() in tools/CMakeLists.txt" >&2
    status=1
  fi
done
exit $status
