#!/usr/bin/env bash
# install.sh SOURCE BUILD CXX: installs into a folder of its own, then uses what lies there as a
# stranger would: the tools, and the library from a project of ten lines.
set -euo pipefail
source=$1 build=$2 cxx=$3
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
loudly() { "$@" >"$prefix/log" 2>&1 || { cat "$prefix/log"; exit 1; }; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

loudly cmake --install "$build" --prefix "$prefix/usr"
cd "$prefix/usr"

tools=0
for tool in bin/*; do
  name=${tool#bin/}
  ! ldd "$tool" | grep 'not found' || fail "$tool lacks libraries"
  "$tool" --version | grep -q "^$name " || fail "$tool --version does not name itself"
  [ -e "share/man/man1/$name.1" ] || fail "no man page for $name"
  [ -e "share/bash-completion/completions/$name" ] || fail "no bash completion for $name"
  [ -e "share/zsh/site-functions/_$name" ] || fail "no zsh completion for $name"
  tools=$((tools + 1))
done
[ $tools -ge 4 ] || fail "only $tools tools were installed"
[ -e share/man/man5/kv.5 ] || fail "no kv(5)"
# shellcheck disable=SC2016  # $ORIGIN is the loader's, not ours
! readelf -d bin/* | grep -E 'R(UN)?PATH' | grep -v '\[\$ORIGIN/\.\./lib[^:]*/kvtools/torch/lib\]' ||
  fail "an installed tool has a path of this machine in it"

loudly cmake -S "$source/tests/checks/consumer" -B "$prefix/consumer" -G Ninja \
  -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_PREFIX_PATH="$prefix/usr"
loudly cmake --build "$prefix/consumer"
cat "$source"/tests/golden/v1/{f16,bf16}.kv >"$prefix/two.kv"
[ "$("$prefix/consumer/count_members" "$prefix/two.kv")" = 2 ] || fail "count_members miscounts"
if [ -x "$prefix/consumer/continue_text" ]; then
  [ -e share/kvtools/models/smollm2.gguf ] || fail "the model was not installed"
  text=$(KVTOOLS_MODELS=$prefix/usr/share/kvtools/models \
    "$prefix/consumer/continue_text" smollm2 'The capital of France is')
  [ "$text" = ' Paris' ] || fail "the model goes on with '$text'"
fi
