#!/usr/bin/env bash
# Chunks that were prefilled alone, fused: what must be exact is, everything else is refused.
source "$(dirname "$0")/lib.sh"
has_model || skip "no model"
m=(-m smollm2 --compute f32)
question='Question: when was the lighthouse completed? Answer:'
head -n 3 "$data/report.txt" >a.txt
sed -n 4,6p "$data/report.txt" >b.txt
tail -n +7 "$data/report.txt" >c.txt
for name in a b c; do kvprefill "${m[@]}" -q $name.txt -o $name.kv; done
blend() { kvblend "${m[@]}" -q "$@" </dev/null; }
dump=$tools/../tests/kv_dump
[ -x "$dump" ] || skip 'kv_dump is not built'
# A full prefill of the ids that a fused cache holds.
ids() { python3 "$tests/kv_deviation.py" --tokens "$dump" "$1"; }
whole() { ids "$1" | kvprefill "${m[@]}" -q --no-bos --jsonl -f -o whole.kv; }
# deviation A B: the largest difference of any K or V.
deviation() { python3 "$tests/kv_deviation.py" "$dump" "$@"; }
mean_deviation() { python3 "$tests/kv_deviation.py" --mean "$dump" "$@"; }
below() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }' || fail "$3: $1, not below $2"; }

# All recomputed: a full prefill, and what it says.
blend -r 100% a.kv b.kv c.kv --suffix "$question" -o full.kv
whole full.kv
below "$(deviation full.kv whole.kv)" 1e-4 '-r 100%'
answer() { kvgen "${m[@]}" -n 16 -q "$@" </dev/null; }
[ "$(kvgen "${m[@]}" -n 16 -q <full.kv)" = "$(kvgen "${m[@]}" -n 16 -q <whole.kv)" ] || fail 'another answer'
# The first piece is exact, so it is not among those.
kvblend "${m[@]}" -r 100% a.kv b.kv c.kv --stats 2>stats >/dev/null
counted() { python3 -c 'import json, sys; print(json.load(open("stats"))[sys.argv[1]])' "$1"; }
tokens() { kvinfo --json "$1" | sed 's/.*"token_count":\([0-9]*\).*/\1/'; }
[ "$(counted exact)" = "$(tokens a.kv)" ] || fail "exact: $(<stats)"
[ "$(counted recomputed)" = $(($(tokens b.kv) + $(tokens c.kv))) ] || fail "recomputed: $(<stats)"

# Nothing recomputed: one chunk is itself, several are their rows; order is what was asked for.
blend -r 0 a.kv -o one.kv
[ "$(deviation one.kv a.kv)" = 0.0 ] || fail 'one chunk'
blend --select none a.kv b.kv c.kv -o none.kv
blend -r 0% --order 2,0 a.kv b.kv c.kv -o order.kv
kvcat --tokens ":$(tokens c.kv)" order.kv >first.kv
kvcat --tokens "$(tokens c.kv):" order.kv >second.kv
[ "$(deviation first.kv c.kv)" = 0.0 ] || fail '--order: first'
[ "$(deviation second.kv a.kv)" = 0.0 ] || fail '--order: second'
[ "$(tokens none.kv)" = $(($(tokens a.kv) + $(tokens b.kv) + $(tokens c.kv))) ] || fail 'tokens'
kvinfo none.kv >info
[ "$(grep -c "chunk.*txt" info)" = 3 ] || fail "chunks: $(<info)"
# Where chunks stand makes a difference, to those recomputed and to the answer.
answer none.kv "$question" >in_order
blend --select none --order 2,1,0 a.kv b.kv c.kv | kvgen "${m[@]}" -n 16 -q "$question" | cmp -s - in_order && fail 'order makes none'

# Members from one file, from stdin as a file and as a pipe, from pipes of their own; from coded ones.
blend a.kv b.kv c.kv --no-history -o wanted.kv
cat a.kv b.kv c.kv >abc.kv
blend abc.kv --no-history | cmp - wanted.kv || fail 'one file'
kvblend "${m[@]}" --no-history <abc.kv | cmp - wanted.kv || fail 'stdin, a file'
cat abc.kv | kvblend "${m[@]}" --no-history | cmp - wanted.kv || fail 'stdin, a pipe'
cat abc.kv | kvblend "${m[@]}" --no-history - | cmp - wanted.kv || fail '-'
blend --no-history <(cat a.kv) b.kv <(cat c.kv) | cmp - wanted.kv || fail 'pipes'
for name in a b c; do kvencode --lossless $name.kv -o $name.kvz; done
blend --no-history a.kvz b.kvz <(cat c.kvz) | cmp - wanted.kv || fail 'lossless'
for threads in 1 2 3; do
  blend --no-history --threads $threads a.kv <(cat b.kv) c.kv | cmp - wanted.kv || fail "$threads threads"
done
kvencode -l 2 b.kv -o lossy.kvz
blend a.kv lossy.kvz c.kv -o from_lossy.kv
below "$(deviation from_lossy.kv wanted.kv)" 30 'a lossy chunk'
[ "$(deviation from_lossy.kv wanted.kv)" != 0.0 ] || fail 'a lossy chunk makes no difference'
# A lossy or rounded first piece is not exact.
kvencode -l 2 a.kv -f -o lossy.kvz
kvblend "${m[@]}" --stats lossy.kvz b.kv 2>stats >/dev/null
[ "$(counted exact)" = 0 ] || fail 'lossy and exact'
# Different dtypes together; another one out.
kvprefill "${m[@]}" -q --dtype f16 b.txt -o b16.kv
blend a.kv b16.kv c.kv --dtype bf16 --no-history -o mixed.kv
kvinfo mixed.kv | grep -q bf16 || fail "dtype: $(kvinfo mixed.kv)"
below "$(deviation mixed.kv wanted.kv)" 2 'dtypes'
kvencode -l 2 wanted.kv | kvdecode | kvgen "${m[@]}" -n 4 -q "$question" >/dev/null

# A prefix is used once, also where chunks were prefilled behind it.
for name in b c; do
  kvprefill "${m[@]}" -q --prefix a.kv $name.txt -o behind_$name.kv
done
blend --prefix a.kv behind_b.kv behind_c.kv -r 0 --no-history -o prefix.kv
kvcat --tokens ":$(($(tokens a.kv) + $(tokens b.kv)))" prefix.kv >first.kv
[ "$(deviation first.kv behind_b.kv)" = 0.0 ] || fail 'the rows of prefix and first chunk'
blend --prefix a.kv behind_b.kv --no-history -o exact.kv
[ "$(deviation exact.kv behind_b.kv)" = 0.0 ] || fail 'what is exact was recomputed'
kvblend "${m[@]}" --prefix a.kv behind_b.kv behind_c.kv --stats -r 100% -f -o prefix.kv 2>stats
[ "$(counted prefix_repeats)" = 2 ] || fail "prefix_repeats: $(<stats)"
[ "$(counted exact)" = "$(tokens behind_b.kv)" ] || fail "exact: $(<stats)"
blend a.kv b.kv c.kv -r 100% -f -o full.kv
below "$(deviation prefix.kv full.kv)" 1e-4 'behind a prefix'

# BOS: only the first stays, unless all are to.
for name in a b; do kvprefill "${m[@]}" -q --bos $name.txt -o bos_$name.kv; done
kvblend "${m[@]}" bos_a.kv bos_b.kv --stats -o bos.kv 2>stats
[ "$(tokens bos.kv)" = $(($(tokens bos_a.kv) + $(tokens bos_b.kv) - 1)) ] || fail 'BOS'
[ "$(counted bos_dropped)" = 1 ] || fail "bos_dropped: $(<stats)"
blend --keep-bos bos_a.kv bos_b.kv -f -o bos.kv
[ "$(tokens bos.kv)" = $(($(tokens bos_a.kv) + $(tokens bos_b.kv))) ] || fail '--keep-bos'

# Separators and suffix are computed, at their places.
kvblend "${m[@]}" --separator ' # # ' --suffix "$question" a.kv b.kv -r 100% --stats -f -o full.kv 2>stats
whole full.kv
below "$(deviation full.kv whole.kv)" 1e-4 'separators'
printf %s "$question" >question.txt
blend --separator ' # # ' --suffix-file question.txt a.kv b.kv -r 100% --no-history -o again.kv
[ "$(deviation full.kv again.kv)" = 0.0 ] || fail '--suffix-file'
printf ' # # ' | kvprefill "${m[@]}" -q --no-bos -o separator.kv
ids separator.kv | sed 's/.*\[\(.*\)\].*/\1/' >separator
ids full.kv | grep -qF "$(<separator)" || fail 'the separator is not there'

# Every rule recomputes as many as it was told and comes closer than reuse.
blend -r 100% a.kv b.kv c.kv --suffix "$question" -f -o full.kv
blend --select none a.kv b.kv c.kv --suffix "$question" -f -o none.kv
reuse=$(mean_deviation none.kv full.kv)
for rule in 'hkvd' 'first' 'qattn' 'random --seed 3' 'hkvd --measure k' 'hkvd --measure kv' 'hkvd --check-layer 3' \
  'hkvd --gradual 60%:50%'; do
  # shellcheck disable=SC2086
  kvblend "${m[@]}" --select $rule -r 50% a.kv b.kv c.kv --suffix "$question" --stats -f -o some.kv 2>stats
  half=$(($(counted reused) / 2)) chosen=$(counted recomputed)
  [ $((chosen - half)) -le 2 ] && [ $((half - chosen)) -le 1 ] || fail "$rule: $(<stats)"
  below "$(mean_deviation some.kv full.kv)" "$reuse" "$rule"
done

# One token, many chunks.
printf '{"id":"t","tokens":[%s]}\n' 5 6 7 | kvprefill "${m[@]}" -q --no-bos --jsonl | kvblend "${m[@]}" -q -r 50% |
  kvinfo --json | grep -q '"token_count":3' || fail 'chunks of a token'
kvprefill "${m[@]}" -q --no-bos --split 5 "$data/report.txt" -o small.kv
for _ in $(seq 10); do cat small.kv; done >many.kv
members=$(kvinfo many.kv | grep -c '^member\|: member')
[ "$members" -ge 200 ] || fail "$members members"
kvblend "${m[@]}" -q -r 15% many.kv | kvinfo --json | grep -q '"token_count"' || fail 'many chunks'

# What cannot be.
for _ in $(seq 60); do cat abc.kv; done >long.kv
expect 3 kvblend -m smollm2 long.kv
says "over the model's context of 8192"
expect 3 kvblend -m smollm2 --prefix abc.kv a.kv
says 'holds 3 members'
expect 3 kvblend -m smollm2 a.kv <(cat abc.kv)
says 'give these on stdin'
expect 3 kvblend -m smollm2
expect 3 kvblend -m smollm2 a.txt
expect 4 kvblend -m smollm2 missing.kv
expect 5 kvblend -m nosuchmodel a.kv
kvcat --layers 0:4 a.kv >layers.kv
expect 3 kvblend -m smollm2 a.kv layers.kv
says 'of the model'
head -c -300 b.kv >cut.kv
expect 3 kvblend -m smollm2 a.kv cut.kv -o not.kv
absent not.kv
cp b.kv damaged.kv
printf '\xff\xfe\xfd' | dd of=damaged.kv bs=1 seek=$(($(wc -c <b.kv) / 2)) conv=notrunc status=none
for threads in 1 2; do
  expect 3 kvblend -m smollm2 --threads $threads a.kv damaged.kv -o not.kv
  says 'checksum mismatch'
  absent not.kv
done
"$tools/../tests/synthetic_kv" 1 16 >other.kv
expect 3 kvblend -m smollm2 a.kv other.kv
says 'made with'
expect 2 kvblend -m smollm2 --order 0,0 a.kv b.kv
expect 2 kvblend -m smollm2 --order 2 a.kv b.kv
expect 2 kvblend -m smollm2 -r 101% a.kv
expect 2 kvblend -m smollm2 --select best a.kv
expect 2 kvblend -m smollm2 --select qattn a.kv b.kv
expect 2 kvblend -m smollm2 --check-layer 30 a.kv b.kv
expect 2 kvblend -m smollm2 --select first --gradual 20%:10% a.kv b.kv
expect 2 kvblend -m smollm2 --dtype int8 a.kv b.kv
expect 4 kvblend -m smollm2 a.kv -o one.kv
