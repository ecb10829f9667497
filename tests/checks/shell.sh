#!/usr/bin/env bash
# shell.sh SOURCE: shellcheck over all shell scripts.
set -euo pipefail
command -v shellcheck >/dev/null || exit 125
cd "$1"
mapfile -t scripts < <(find .ci setup tests examples bench -type f \
  \( -name '*.sh' -o -path '.ci/run' -o -path '*/cli/*' ! -name '*.*' \))
shellcheck -x "${scripts[@]}"
