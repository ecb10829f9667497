#!/usr/bin/env bash
# format.sh [--fix]: the sources are as clang-format leaves them. Version 14, for others differ.
set -euo pipefail
command -v clang-format-14 >/dev/null || exit 125
cd "$(dirname "$0")/../.."
how=(--dry-run -Werror)
[ "${1-}" = --fix ] && how=(-i)
find . -path './build*' -prune -o -path './.*' -prune -o \
  \( -name '*.cc' -o -name '*.hh' -o -name '*.cu' \) -print0 |
  xargs -0 clang-format-14 "${how[@]}"
