#!/usr/bin/env bash
# A profile is made, and what it codes comes back: the same for any number of threads, of any layers
# and tokens, from a pipe and from a file. A profile of so few tokens is a bad one, but a sound one.
source "$(dirname "$0")/lib.sh"
has_model || skip "no model"
[ -x "$tools/kvcalibrate" ] || skip "no kvcalibrate"
text=$tests/../examples/data/report.txt
export HOME=$work XDG_DATA_HOME='' KVTOOLS_PROFILES=$work/profiles

mkdir profiles
calibrate() { kvcalibrate -q -m smollm2 --tokens 512 --window 256 --no-sensitivity "$@"; }
calibrate "$text" -o profiles/smollm2.kvp
[ -d profiles/smollm2.kvp.samples ] || fail 'the caches of the texts are not kept'
calibrate --work profiles/smollm2.kvp.samples "$text" | cmp - profiles/smollm2.kvp ||
  fail 'another profile from the same caches'
expect 4 kvcalibrate -m smollm2 "$text" -o profiles/smollm2.kvp
expect 3 kvcalibrate -m smollm2 --tokens 256 --work w /dev/null -o none.kvp
absent none.kvp

kvprefill -q -m smollm2 --importance --dtype bf16 "$text" -o a.kv
kvencode -l 2 --no-history a.kv -o a.kvz
[ $(($(stat -c %s a.kvz) * 5)) -lt "$(stat -c %s a.kv)" ] || fail "only $(stat -c %s a.kvz) bytes"
kvencode -l 2 --no-history --threads 1 <a.kv | cmp - a.kvz || fail 'threads change the stream'
kvinfo a.kvz | grep -Eq 'profile +[0-9a-f]{16}' || fail "$(kvinfo a.kvz)"
kvinfo a.kvz | grep -q 'clp' || fail "$(kvinfo a.kvz)"
kvdecode --no-history a.kvz >b.kv
kvdecode --no-history --threads 1 <a.kvz | cmp - b.kv || fail 'threads change what is decoded'
kvinfo --check a.kvz b.kv >/dev/null || fail 'not sound'
[ "$(kvinfo --json b.kv | grep -o '"token_count":[0-9]*')" = \
  "$(kvinfo --json a.kv | grep -o '"token_count":[0-9]*')" ] || fail 'tokens are lost'

# The other lossy codec has to be asked for where there is a profile, or one looks elsewhere.
kvencode -q --codec ecsq --no-history a.kv -o plain.kvz 2>err
[ ! -s err ] || fail "$(<err)"
kvinfo plain.kvz | grep -q 'ecsq' || fail "$(kvinfo plain.kvz)"
KVTOOLS_PROFILES='' kvencode -l 2 --no-history a.kv 2>err | cmp - plain.kvz || fail 'no profile'
says 'kvcalibrate -m smollm2 -l 2'
kvgen -q -m smollm2 -n 4 'Question: who? Answer:' <plain.kvz >answer
[ -s answer ] || fail 'no answer from a cache of ecsq'

# Parts: what is not needed for them need not be there.
kvdecode --no-history --layers 3:5 a.kvz >part
kvcat --no-history --layers 3:5 b.kv | cmp - part || fail 'layers 3 and 4'
kvdecode --no-history --tokens 1024:1100 a.kvz >part
kvcat --no-history --tokens 1024:1100 b.kv | cmp - part || fail 'tokens behind the first tile'
kvcat --tokens 0:1024 a.kvz | kvdecode --no-history >part
kvcat --no-history --tokens 0:1024 b.kv | kvcat --no-history | cmp - part || fail 'a whole tile'
expect 2 kvcat --tokens 0:100 a.kvz
says 'coded together'
kvcat --layers 5:30 a.kvz >headless.kvz
expect 3 kvdecode headless.kvz -o headless.kv
says 'needs layer 4'
absent headless.kv

# It answers, and steps move size.
kvgen -q -m smollm2 -n 4 'Question: who? Answer:' <a.kvz >answer
[ -s answer ] || fail 'no answer from a coded cache'
kvencode -l 2 --no-history --step -16 a.kv -o fine.kvz
kvencode -l 2 --no-history --step 8 a.kv -o coarse.kvz
[ "$(stat -c %s fine.kvz)" -gt "$(stat -c %s a.kvz)" ] || fail 'a finer step'
[ "$(stat -c %s coarse.kvz)" -lt "$(stat -c %s a.kvz)" ] || fail 'a coarser step'

KVTOOLS_PROFILES='' expect 3 kvdecode a.kvz -o lost.kv
says 'needs the profile'
absent lost.kv
printf x | dd of=profiles/smollm2.kvp bs=1 seek=100000 conv=notrunc status=none
expect 3 kvdecode a.kvz -o lost.kv
says 'checksum'
absent lost.kv
