#!/usr/bin/env bash
# Sourced by the scripts here. Each runs in a folder of its own with the tools in PATH and
#   report.txt report.kv report.kvz   a short text, its cache, the same coded
# in $data. `has_model`: kvprefill and kvgen are built and the embedded model is there.
# shellcheck disable=SC2034
set -euo pipefail
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=${1:?the folder with the tools}
data=${2:?the folder with report.kv}
PATH=$tools:$PATH
work=$(mktemp -d)
# Files may have been made unwritable.
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work"

fail() { echo "FAILED: $*" >&2; exit 1; }
has_model() { [ -x "$tools/kvgen" ] && kvinfo -m smollm2 >/dev/null 2>&1; }
skip() { echo "SKIPPED: $*"; exit 125; }

# expect STATUS COMMAND...: the status, one line on stderr that begins with the tool's name when it
# is not 0 or 1, and nothing that was half written.
expect() {
  local wanted=$1 status=0
  shift
  "$@" >out 2>err </dev/null || status=$?
  [ "$status" = "$wanted" ] || fail "$*: status $status, not $wanted: $(head -c 500 err)"
  if [ "$wanted" -gt 1 ] && [ "$wanted" -lt 128 ]; then
    [ "$(wc -l <err)" = 1 ] || fail "$*: not one line: $(head -c 500 err)"
    [[ $(<err) == "$1: "* ]] || fail "$*: the line does not begin with $1: $(<err)"
  fi
}
# says TEXT: the last message has it.
says() { grep -qF -- "$1" err || fail "not said: '$1' but: $(<err)"; }
absent() { for f in "$@"; do [ ! -e "$f" ] || fail "$f is there"; done; }
# No file but these.
only() { [ "$(ls -A)" = "$(printf '%s\n' "$@" | sort)" ] || fail "left over: $(ls -A)"; }
# judge STATUS WANTED TEXT WHAT: what `expect` and `says` check, of a command that ran in a pipeline
# or in the background with its stderr in ./err.
judge() {
  [ "$1" = "$2" ] || fail "$4: status $1, not $2: $(head -c 500 err)"
  [ "$(wc -l <err)" = 1 ] || fail "$4: not one line: $(head -c 500 err)"
  says "$3"
}
# big.kv, for what has to last a while: LAYERS times 32 MiB in 16 tiles.
big() {
  [ -x "$tools/../tests/synthetic_kv" ] || skip 'synthetic_kv is not built'
  "$tools/../tests/synthetic_kv" "$1" 8192 >big.kv
}
empty_folder() { [ -z "$(ls -A "$1")" ] || fail "left in $1: $(ls -A "$1")"; }
