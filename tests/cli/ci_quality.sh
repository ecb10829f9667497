#!/usr/bin/env bash
# ci_quality.sh TOOLS DATA SOURCE: the example's job passes at level 2 and fails at what is too lossy.
source "$(dirname "$0")/lib.sh"
has_model || skip 'no model'
example=${3:?the folder with the sources}/examples/ci-quality.sh
status=0
"$example" "$tools/.." 2 '' "$work/two" >out 2>err || status=$?
[ $status = 0 ] || fail "level 2: status $status: $(cat out err)"
grep -q 'failures="0"' two/checks.xml || fail 'checks.xml'
"$example" "$tools/.." 4 '' "$work/four" >out 2>err && fail 'level 4 passed'
grep -q 'FAILED kvencode -l 4 | kvdecode: max-kld' out || fail "level 4: $(cat out err)"
# Again, from what is there; and with a limit that it does not keep.
cp two/results.jsonl before
MAX_KLD=1e-7 "$example" "$tools/.." 2 '' "$work/two" >out 2>err && fail 'passed'
cmp before two/results.jsonl || fail 'measured again'
grep -q 'FAILED kvencode -l 2 | kvdecode: max-kld' out || fail "$(<out)"
grep -q 'failures="1"' two/checks.xml || fail 'checks.xml'
