#!/usr/bin/env bash
# bench/int8_dot.sh [BUILD]: the exact 8-bit products on one core, each target beside its instruction
# on registers alone, and beside torch._int_mm (oneDNN) where the peers are installed.
#   KVTOOLS_BENCH_ROUNDS  default 12
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:-$source/build}")
rounds=${KVTOOLS_BENCH_ROUNDS:-12}
sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1
"$build/tests/int8_dot_bench" "$rounds"
python=$source/.deps/peers/bin/python
[ -x "$python" ] || { echo 'torch._int_mm not measured: no peers here (make peers)'; exit 0; }
"$python" - "$rounds" <<'PYTHON'
import sys
import time

import torch

torch.set_num_threads(1)
print(f"\n| torch {torch.__version__} _int_mm, one thread | G multiply-adds/s |\n|---|---|")
for outputs, inputs, tokens in ((192, 576, 128), (192, 576, 1024), (192, 384, 128),
                                (192, 192, 128), (256, 768, 256), (1024, 3072, 256)):
    w = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
    x = torch.randint(-128, 128, (inputs, tokens), dtype=torch.int8)
    best = 1e9
    for _ in range(int(sys.argv[1])):
        calls = 20
        start = time.thread_time()
        for _ in range(calls):
            torch._int_mm(w, x)
        best = min(best, (time.thread_time() - start) / calls)
    print(f"| {outputs} x {inputs}, {tokens} | {1e-9 * outputs * inputs * tokens / best:.1f} |")
PYTHON
