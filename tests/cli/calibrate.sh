#!/usr/bin/env bash
# A profile is made, and what it codes comes back: the same for any number of threads, of any layers
# and tokens, from a pipe and from a file. A profile of so few tokens is a bad one, but a sound one.
source "$(dirname "$0")/lib.sh"
has_model || skip "no model"
[ -x "$tools/kvcalibrate" ] || skip "no kvcalibrate"
text=$tests/../examples/data/report.txt
export HOME=$work XDG_DATA_HOME='' KVTOOLS_PROFILES=$work/profiles

# Tools that lie in no source tree: none finds the profile that set-up makes.
mkdir bin profiles
cp "$tools"/{kvcat,kvdecode,kvencode,kvinfo} bin
PATH=$work/bin:$PATH
calibrate() { kvcalibrate -q -m smollm2 --tokens 512 --window 256 --no-sensitivity "$@"; }
calibrate "$text" -o profiles/smollm2.kvp
[ -d profiles/smollm2.kvp.samples ] || fail 'the caches of the texts are not kept'
calibrate --work profiles/smollm2.kvp.samples "$text" | cmp - profiles/smollm2.kvp ||
  fail 'another profile from the same caches'
expect 4 kvcalibrate -m smollm2 "$text" -o profiles/smollm2.kvp
expect 3 kvcalibrate -m smollm2 --tokens 256 --work w /dev/null -o none.kvp
absent none.kvp
# Of the texts that are found when none is given.
mkdir texts
python3 -c 'import json, sys; print(json.dumps({"text": open(sys.argv[1]).read()}))' "$text" >texts/mixed.jsonl
KVTOOLS_TEXTS=$work/texts calibrate --margin 8 --work profiles/smollm2.kvp.samples -o wide.kvp
[ "$(stat -c %s wide.kvp)" -gt 7000000 ] || fail 'no profile of the mixed texts'
! cmp -s wide.kvp profiles/smollm2.kvp || fail 'classes are no wider'

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

# A level without a profile takes another's; --max-kld and --bits need a map.
kvencode -l 3 --no-history a.kv -o l3.kvz 2>err
says 'no profile of level 3; that of level 2 with step 7'
kvencode -q -l 2 --step 7 --no-history a.kv | cmp - l3.kvz || fail 'not the step that was said'
expect 3 kvencode --max-kld 0.01 a.kv -o none.kvz
says 'map'
expect 2 kvencode --max-kld 0.01 -l 2 a.kv -o none.kvz
expect 2 kvencode --max-kld 0.01 --bits 1 a.kv -o none.kvz
expect 2 kvencode --codec planes --max-kld 0.01 a.kv -o none.kvz
absent none.kvz

# Two levels with maps, from one set of caches; what is there is not made again.
KVTOOLS_PROFILES=$work/mapped
two() { kvcalibrate -m smollm2 --tokens 768 --window 96 --out-dir mapped -l 1,3 "$text" 2>err; }
two
says 'with a KLD of'
[ -s "$(echo mapped/samples/*.errors)" ] || fail 'what errors do is not kept'
cp mapped/smollm2.l3.kvp was.kvp
rm mapped/smollm2.l3.kvp
two
says 'l1.kvp: is there'
cmp was.kvp mapped/smollm2.l3.kvp || fail 'another profile when it is made alone'
rm -r mapped/samples
expect 2 kvcalibrate -m smollm2 -l 1,3 "$text" -o two.kvp
expect 2 kvcalibrate -m smollm2 -o two.kvp --out-dir mapped "$text"
head_of() { dd if="$1" bs=1 skip=32 count=4000 status=none | tr -d '\0' | grep -ao '"map":[^]]*\]'; }
for level in 1 3; do
  head_of mapped/smollm2.l$level.kvp >map
  [ "$(grep -o '"step"' map | wc -l)" = 5 ] || fail "map of level $level: $(<map)"
done
bits_of() { python3 -c 'import json, sys; print([p["bits"] for p in json.loads(sys.argv[1][6:])][int(sys.argv[2])])' "$(head_of "$1")" "$2"; }
most=$(bits_of mapped/smollm2.l1.kvp 0) least=$(bits_of mapped/smollm2.l3.kvp 4)
middle=$(python3 -c "print(($most * $least) ** 0.5)")
kvencode -q --bits "$middle" --no-history a.kv -o middle.kvz
kvinfo middle.kvz | grep -q 'codec        clp level=[13] step=.* kld=' || fail "$(kvinfo middle.kvz)"
kvencode -q --bits "$most" --no-history a.kv -o most.kvz
# Not always more: so poor a profile may have its least KLD at fewer bits, and then they are taken.
[ "$(stat -c %s most.kvz)" -ge "$(stat -c %s middle.kvz)" ] || fail 'more bits, a smaller file'
expect 3 kvencode --bits "$(python3 -c "print($least / 2)")" a.kv -o none.kvz
says 'outside of what was measured'
expect 3 kvencode --max-kld 1e-9 a.kv -o none.kvz
says 'is less than what was measured'
kvencode -q --max-kld 99 --no-history a.kv -o coarsest.kvz
kvencode -q -l 3 --step 8 --no-history a.kv | cmp - coarsest.kvz || fail 'not the coarsest step'
absent none.kvz
KVTOOLS_PROFILES=$work/profiles

# CacheGen's profile from the same caches.
calibrate --codec cachegen --work profiles/smollm2.kvp.samples "$text" -o smollm2.kvprofile
kvencode --codec cachegen --profile smollm2.kvprofile --no-history a.kv -o cachegen.kvz
KVTOOLS_PROFILES=$work/smollm2.kvprofile kvdecode --no-history cachegen.kvz -o cachegen.kv
[ "$(stat -c %s cachegen.kv)" = "$(stat -c %s b.kv)" ] || fail 'other sizes from cachegen'

KVTOOLS_PROFILES='' expect 3 kvdecode a.kvz -o lost.kv
says 'needs the profile'
absent lost.kv
printf x | dd of=profiles/smollm2.kvp bs=1 seek=100000 conv=notrunc status=none
expect 3 kvdecode a.kvz -o lost.kv
says 'checksum'
absent lost.kv
