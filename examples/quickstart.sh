#!/usr/bin/env bash
# The main job, start to end, on a text of this folder: its KV cache computed, looked at, made
# smaller without loss and with some, read back, and asked two questions.
#   examples/quickstart.sh BUILD_DIR
set -euo pipefail

build=${1:?usage: examples/quickstart.sh BUILD_DIR}
here=$(cd "$(dirname "$0")" && pwd)
PATH="$(cd "$build" && pwd)/tools:$PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/data/report.txt" "$work/"
cd "$work"

step() { printf '\n$ %s\n' "$*" >&2; }
# A number out of kvgen's --stats.
stat_of() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p" "$2"; }

step 'kvprefill -m smollm2 --importance report.txt >report.kv'
kvprefill -m smollm2 --importance report.txt >report.kv
step 'kvinfo report.kv'
kvinfo report.kv
step 'kvencode --lossless <report.kv >report.kvz'
kvencode --lossless <report.kv >report.kvz
step 'kvencode -l 2 <report.kv >small.kvz'
kvencode -l 2 <report.kv >small.kvz
kvinfo small.kvz | grep -E '^  (codec|size)' >&2
kvprefill -m smollm2 --dtype fp8_e4m3 report.txt >report.fp8.kv
step 'kvdecode <report.kvz | cmp with report.kv: every bit comes back'
cmp <(kvdecode --no-history <report.kvz) <(kvcat --no-history report.kv)

ask() { # name, question
  step "kvdecode <report.kvz | kvgen -m smollm2 '$2'"
  kvdecode <report.kvz | kvgen -m smollm2 -n 24 --stop $'\n' --stats "$2" 2>"$1.cached"
  { cat report.txt; printf '%s' "$2"; } >"$1.txt"
  kvgen -m smollm2 -n 1 --no-cache --stats --prompt-file "$1.txt" 2>"$1.full" >"$1.answer"
}
ask first 'Question: Who was the engineer of the lighthouse? Answer: The engineer was'
ask second 'Question: Where was the lens made? Answer: The lens was made in'
step "kvdecode <small.kvz | kvgen -m smollm2 'Question: Where was the lens made? ...'"
kvdecode <small.kvz | kvgen -m smollm2 -n 24 --stop $'\n' \
  'Question: Where was the lens made? Answer: The lens was made in'

printf '\n%-34s %12s\n' 'cache of 1,601 tokens' bytes
for file in report.kv report.kvz small.kvz report.fp8.kv; do
  case $file in
    report.kv) label='bf16' ;;
    report.kvz) label='bf16, lossless' ;;
    small.kvz) label='level 2 (lossy)' ;;
    *) label='fp8 (lossy)' ;;
  esac
  printf '%-42s %12d\n' "  $label" "$(stat -c %s "$file")"
done
printf '%-42s %12d\n' '  the text itself' "$(stat -c %s report.txt)"
printf '\n%-34s %12s %12s\n' 'time to first token, model included, s' 'from cache' 'from text'
for name in first second; do
  printf '%-42s %12.2f %12.2f\n' "  $name question" \
    "$(stat_of ttft_s $name.cached)" "$(stat_of ttft_s $name.full)"
done
