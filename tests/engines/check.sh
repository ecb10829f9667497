#!/usr/bin/env bash
# check.sh [BUILD] [PROMPTS]: every engine that a processor runs answers from our caches; what prove.py
# prints. An hour for 20 prompts on 2 cores.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-$root/build-ci}
prompts=${2:-20}
export PYTHONDONTWRITEBYTECODE=1 TQDM_DISABLE=1
failed=0
# prove PYTHON ENGINE [OPTION...]
prove() {
  "$root/.deps/$1/bin/python" "$root/tests/engines/prove.py" "$2" "$build/tools" --lossy \
    --prompts "$prompts" "${@:3}" || failed=1
}
prove peers transformers
prove peers llamacpp
"$root/tests/engines/setup.sh"
prove engines vllm --folder "$root/.deps/engines/smollm2"
exit $failed
