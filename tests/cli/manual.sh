#!/usr/bin/env bash
# The examples of a man page, run. Third argument: the tool.
source "$(dirname "$0")/lib.sh"
cp "$data"/report.* .
# The .Bd blocks of EXAMPLES, as roff writes a backslash: \e.
awk '/^\.Sh EXAMPLES/ { on = 1 } /^\.Sh SEE/ { on = 0 } /^\.Ed/ { block = 0 }
     on && block { gsub(/\\e/, "\\"); print } on && /^\.Bd/ { block = 1 }' \
  "$tests/../man/$3.1" >examples
[ -s examples ] || fail "no examples in $3.1"
! grep -q smollm2 examples || has_model || skip "no model for the examples"
# head closes its pipe early, which is not an error in an example.
bash -euxc "$(cat examples)" </dev/null || fail "an example of $3.1"
