#!/usr/bin/env bash
# Options, --help, the man page and the completions say the same. Third argument: the tool.
source "$(dirname "$0")/lib.sh"
tool=$3
page=$tests/../man/$tool.1
[ -f "$page" ] || fail "no $page"
"$tool" --dump-options | cut -f1 | tr ',' '\n' | grep -- '^-' | sort -u >code
# ".It Fl o , Fl -output Ar FILE" -> -o --output
sed -n 's/^\.It //p' "$page" | grep -o 'Fl [^ ,]*' | sed 's/Fl /-/' | sort -u >manual
diff code manual >difference || fail "$page and --dump-options differ: $(cat difference)"
# With their arguments, and each with a word of help.
"$tool" --dump-options | awk -F '\t' '$1 { n = split($1, names, ",")
  if (!$3) print $1 " has no help"
  for (i = 1; i <= n; ++i) print names[i] ($2 ? " " $2 : "") }' | sort -u >code_arguments
sed -n 's/^\.It //p' "$page" | awk '/^Fl / { n = 0
  for (i = 1; i <= NF; ++i) {
    if ($i == "Fl") names[++n] = "-" $++i
    if ($i == "Ar") { ++i; while (n) print names[n--] " " $i }
  }
  while (n) print names[n--] }' | sort -u >manual_arguments
diff code_arguments manual_arguments >difference || fail "arguments in $page: $(cat difference)"
"$tool" --help >help
grep -q '^Examples:' help || fail '--help has no examples'
while read -r name; do
  grep -qF -- "$name" help || fail "--help does not name $name"
done <code
[ "$("$tool" --version | head -c ${#tool})" = "$tool" ] || fail '--version does not name the tool'
summary=$(sed -n 's/^\.Nd //p' "$page")
grep -qF -- "$summary" help || fail "--help and the page's NAME differ: $summary"
"$tool" --completion bash >completion
bash -n completion
# shellcheck disable=SC1091
source ./completion
COMP_WORDS=("$tool" --hel) COMP_CWORD=1
"_${tool//-/_}"
[[ " ${COMPREPLY[*]} " == *" --help "* ]] || fail "completion of --hel: ${COMPREPLY[*]}"
"$tool" --completion zsh | head -n 1 | grep -qx "#compdef $tool" || fail 'zsh completion'
if command -v zsh >/dev/null; then "$tool" --completion zsh | zsh -n; fi
expect 2 "$tool" --completion fish
expect 2 "$tool" --no-such-option
