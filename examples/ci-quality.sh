#!/usr/bin/env bash
# A CI job that fails when a cache is compressed too far for your model and prompts: level LEVEL of
# kvencode beside the uncompressed cache, over questions about a report. Exit status 0 when it is good
# enough, 1 when not; checks.xml has it for a CI system, results.jsonl lets a job that was broken off go
# on.
#   examples/ci-quality.sh BUILD [LEVEL [PROMPTS [FOLDER]]]
#   MAX_KLD   nats a token, on average (default: 0.015)
#   MIN_TOP1  share of tokens that stay the same (default: 0.9)
set -euo pipefail

build=${1:?usage: examples/ci-quality.sh BUILD [LEVEL [PROMPTS [FOLDER]]]}
level=${2:-2}
here=$(cd "$(dirname "$0")" && pwd)
prompts=$(realpath "${3:-$here/data/prompts.jsonl}")
folder=${4:-$(mktemp -d)}
PATH="$(cd "$build" && pwd)/tools:$PATH"
mkdir -p "$folder"

# The prompts are a conversation as the model's template has it; --special takes its marks as such.
status=0
kveval -m smollm2 --compute f32 --whole --special -n 24 \
  --question $'\nQuestion: {}\nAnswer in a few words.<|im_end|>\n<|im_start|>assistant\n' \
  --recipe "kvencode -l $level | kvdecode" \
  --max-kld "${MAX_KLD:-0.015}" --min-top1 "${MIN_TOP1:-0.9}" \
  --work "$folder/results.jsonl" --junit "$folder/checks.xml" -f "$prompts" || status=$?
[ $status -gt 1 ] || echo "checks: $folder/checks.xml" >&2
exit $status
