#!/usr/bin/env bash
# Chunks that were prefilled alone, fused: what must be exact is, everything else is refused. Rules
# and layers are tests/unit/blend_test.cc's; here are streams, options and the real model.
source "$(dirname "$0")/lib.sh"
has_model || skip "no model"
m=(-m smollm2 --compute f32)
question='Question: when was the lighthouse completed? Answer:'
blend() { kvblend "${m[@]}" -q "$@" </dev/null; }
prefill() { kvprefill "${m[@]}" -q "$@"; }
# jsonl NAME...: lines of --jsonl with the texts. split PREFIX NAME...: members to files.
jsonl() {
  python3 -c 'import json, sys
for name in sys.argv[1:]: print(json.dumps({"id": name, "text": open(name + ".txt").read()}))' "$@"
}
split() {
  local prefix=$1 number=0
  shift
  for name; do kvcat --members $((number++)) members.kv -o "$prefix$name.kv"; done
  rm members.kv
}
# A full prefill of the ids that a fused cache holds.
ids() { kvinfo --tokens "$1" | paste -sd , ; }
whole() { echo "{\"id\": \"whole\", \"tokens\": [$(ids "$1")]}" | prefill --no-bos --jsonl -f -o whole.kv; }
# deviation A B: the largest difference of any K or V. apart A B: their relative L2 errors, added.
totals() { kvdiff-layers --json "$2" "$3" | python3 -c 'import json, sys
(member,) = json.load(sys.stdin)["members"]
of = [total[sys.argv[1]] for total in member["totals"]]
print(max(of) if sys.argv[1] == "max" else sum(of))' "$1"; }
deviation() { totals max "$@"; }
apart() { totals rel_l2 "$@"; }
below() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }' || fail "$3: $1, not below $2"; }
tokens() { kvinfo --json "$1" | sed 's/.*"token_count":\([0-9]*\).*/\1/'; }
counted() { python3 -c 'import json, sys; print(json.load(open("stats"))[sys.argv[1]])' "$1"; }

sed -n 1,2p "$data/report.txt" >a.txt
sed -n 3,4p "$data/report.txt" >b.txt
sed -n 5,6p "$data/report.txt" >c.txt
jsonl a b c | prefill --jsonl -o members.kv
cp members.kv abc.kv
split '' a b c

# All recomputed: a full prefill, with separators and a suffix, and what it says. The first piece is
# exact, so it is not among those.
kvblend "${m[@]}" -r 100% --separator ' # # ' --suffix "$question" a.kv b.kv c.kv --stats -o full.kv 2>stats
whole full.kv
below "$(deviation full.kv whole.kv)" 1e-4 '-r 100%'
[ "$(kvgen "${m[@]}" -n 12 -q <full.kv)" = "$(kvgen "${m[@]}" -n 12 -q <whole.kv)" ] || fail 'another answer'
[ "$(counted exact)" = "$(tokens a.kv)" ] || fail "exact: $(<stats)"
[ "$(counted recomputed)" = $(($(tokens b.kv) + $(tokens c.kv))) ] || fail "recomputed: $(<stats)"
printf ' # # ' >separator.txt
prefill --no-bos separator.txt -o separator.kv
ids separator.kv >separator
ids full.kv | grep -qF "$(<separator)" || fail 'the separator is not there'
# Fewer come closer than none.
printf %s "$question" >question.txt
blend --select none --separator ' # # ' --suffix-file question.txt a.kv b.kv c.kv -o none.kv
reuse=$(apart none.kv full.kv)
for rule in 'hkvd' 'qattn' 'first' 'random --seed 3' 'hkvd --gradual 60%:50% --measure kv'; do
  # shellcheck disable=SC2086
  kvblend "${m[@]}" --select $rule -r 50% --separator ' # # ' --suffix "$question" a.kv b.kv c.kv --stats -f -o some.kv 2>stats
  half=$(($(counted reused) / 2)) chosen=$(counted recomputed)
  if [ $((chosen - half)) -gt 2 ] || [ $((half - chosen)) -gt 1 ]; then fail "$rule: $(<stats)"; fi
  below "$(apart some.kv full.kv)" "$reuse" "$rule"
done

# Nothing recomputed: one chunk is itself, several are their rows; order is what was asked for, and
# makes a difference to those recomputed.
blend -r 0 a.kv -o one.kv
[ "$(deviation one.kv a.kv)" = 0.0 ] || fail 'one chunk'
blend -r 0% --order 2,0 a.kv b.kv c.kv -o order.kv
kvcat --tokens ":$(tokens c.kv)" order.kv >first.kv
kvcat --tokens "$(tokens c.kv):" order.kv >second.kv
[ "$(deviation first.kv c.kv)" = 0.0 ] || fail '--order: first'
[ "$(deviation second.kv a.kv)" = 0.0 ] || fail '--order: second'
blend -r 100% --order 2,0 a.kv b.kv c.kv -f -o order.kv
kvcat --tokens "$(tokens c.kv):" order.kv >second.kv
[ "$(deviation second.kv a.kv)" != 0.0 ] || fail 'what stands before makes no difference'
kvinfo full.kv >info
[ "$(grep -c "chunk " info)" = 3 ] || fail "chunks: $(<info)"

# Members from one file, from stdin as a file and as a pipe, from pipes of their own, from coded
# ones, with any number of threads.
blend a.kv b.kv c.kv --no-history -o wanted.kv
kvblend "${m[@]}" --no-history <abc.kv | cmp - wanted.kv || fail 'stdin, a file'
cat abc.kv | kvblend "${m[@]}" --no-history --threads 1 | cmp - wanted.kv || fail 'stdin, a pipe'
for name in a c; do kvencode --lossless $name.kv -o $name.kvz; done
blend --no-history --threads 3 a.kvz <(cat b.kv) <(cat c.kvz) | cmp - wanted.kv || fail 'pipes'
# A lossy first piece is not exact; dtypes may differ, and another one comes out.
kvencode -l 2 a.kv -o lossy.kvz
prefill --dtype bf16 b.txt -o b16.kv
kvblend "${m[@]}" --stats --dtype bf16 lossy.kvz b16.kv c.kv -o mixed.kv 2>stats
[ "$(counted exact)" = 0 ] || fail 'lossy and exact'
kvinfo mixed.kv | grep -q bf16 || fail "dtype: $(kvinfo mixed.kv)"
[ "$(deviation mixed.kv wanted.kv)" != 0.0 ] || fail 'a lossy chunk makes no difference'
below "$(apart mixed.kv wanted.kv)" 0.6 'lossy, dtypes'

# So may codecs, one chunk from the next.
prefill --dtype fp8_e4m3 a.txt -o a8.kv
prefill --dtype f16 b.txt | kvencode --codec kivi --bits 4 -o b4.kvz
kvencode -l 3 --codec ecsq c.kv -o c3.kvz
blend a8.kv b4.kvz c3.kvz | kvencode -l 1 --codec ecsq | kvdecode -o coded.kv
[ "$(ids coded.kv)" = "$(ids wanted.kv)" ] || fail 'other tokens'
below "$(apart coded.kv wanted.kv)" 0.6 'codecs in and out'
blend a8.kv a.kv | kvinfo --check >/dev/null || fail 'the same text twice'
# Chunks alone may be too long.
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do cat abc.kv; done >forty.kv
count=$(($(tokens a.kv) + $(tokens b.kv) + $(tokens c.kv)))
for ((i = 0; 20 * i * count <= 8192; ++i)); do cat forty.kv; done >toolong.kv
expect 3 kvblend -m smollm2 toolong.kv
says "over the model's context of 8192"
rm toolong.kv forty.kv

# A prefix is used once, also where chunks were prefilled behind it.
jsonl b c | prefill --prefix a.kv --jsonl -o members.kv
split behind_ b c
kvblend "${m[@]}" --prefix a.kv behind_b.kv behind_c.kv --stats -r 100% -o prefix.kv 2>stats
[ "$(counted prefix_repeats)" = 2 ] || fail "prefix_repeats: $(<stats)"
[ "$(counted exact)" = "$(tokens behind_b.kv)" ] || fail "exact: $(<stats)"
kvcat --tokens ":$(tokens behind_b.kv)" prefix.kv >first.kv
[ "$(deviation first.kv behind_b.kv)" = 0.0 ] || fail 'the rows of prefix and first chunk'
whole prefix.kv
below "$(deviation prefix.kv whole.kv)" 1e-4 'behind a prefix'

# BOS: only the first stays, unless all are to.
jsonl a b | prefill --bos --jsonl -o bos.kv
both=$(($(tokens a.kv) + $(tokens b.kv)))
kvblend "${m[@]}" bos.kv --stats -o dropped.kv 2>stats
[ "$(tokens dropped.kv)" = $((both + 1)) ] || fail 'BOS'
[ "$(counted bos_dropped)" = 1 ] || fail "bos_dropped: $(<stats)"
[ "$(blend --keep-bos bos.kv | kvinfo --json | sed 's/.*"token_count":\([0-9]*\).*/\1/')" = $((both + 2)) ] || fail '--keep-bos'

# One token, many chunks.
{
  prefill --no-bos --split 1 a.txt
  for _ in 1 2 3 4 5 6 7 8; do cat abc.kv; done
} >some.kv
for _ in 1 2 3 4 5 6; do cat some.kv; done >many.kv
[ "$(kvinfo --json many.kv | grep -o '"first_position"' | wc -l)" -ge 200 ] || fail 'not 200 members'
blend -r 15% many.kv -o fused.kv
kvinfo --check fused.kv >/dev/null

# Layers are read no faster than allowed, two at a time; what loading takes decides how many are
# recomputed: all, were it to take for ever, or the least.
kvblend "${m[@]}" --read-rate 20M abc.kv --stats -f -o fused.kv 2>stats
python3 -c 'import json; s = json.load(open("stats"))
assert s["load_s"] > 0.9 * s["read_bytes"] / 20e6 and s["layer_peak"] == 2, s
assert 0.9 * s["stored_bytes"] < s["read_bytes"] < 1.3 * s["stored_bytes"], s' || fail "--read-rate: $(<stats)"
for rule in hkvd first; do
  kvblend "${m[@]}" -r auto --select $rule --throughput 1k abc.kv --stats -f -o fused.kv 2>stats
  [ "$(counted recomputed)" = "$(counted reused)" ] || fail "-r auto, $rule: $(<stats)"
done
kvblend "${m[@]}" -r auto --floor 20 --throughput 1000T abc.kv --stats -f -o fused.kv 2>stats
[ "$(counted auto_share)" = 0.2 ] || fail "-r auto, the least: $(<stats)"
kvblend "${m[@]}" --plan --throughput 1k abc.kv >plan
[ "$(grep -c '%' plan)" = 8 ] || fail "--plan: $(<plan)"
grep -q '^given .*100.0%' plan || fail "--plan: $(<plan)"
kvblend "${m[@]}" --plan --json abc.kv | python3 -c 'import json, sys
plan = json.load(sys.stdin)
loads = [d["load_s"] for d in plan["devices"]]
assert loads == sorted(loads) and plan["prefill_s"] > 0 and plan["layers"] == 30, plan
assert all(d["hidden"] == (d["load_s"] <= d["recompute_s"]) for d in plan["devices"] if d["share"] == 0.15)'

# Beside a full prefill: equal when all is recomputed; when nothing is, not within the limits, and no
# file is left.
expect 0 kvblend "${m[@]}" --verify -r 100% --max-kld 1e-6 --min-top1 1 --next 8 --json --suffix "$question" abc.kv
python3 -c 'import json; s = json.load(open("out"))
assert s["next_tokens"] == 8 and s["top1"] == 1 and s["kld_mean"] < 1e-6, s
assert len(s["layers"]) == 30 and s["layers"][0]["values_read"] < 1e-5, s
last = s["layers"][-1]
assert last["values_read"] > 0.1 and last["values_fused"] < 1e-4 and last["keys_fused"] < 1e-4, last
assert s["flops"] < s["prefill_flops"], s' || fail "--verify: $(<out)"
expect 1 kvblend "${m[@]}" --verify -r 0 --max-kld 1e-6 --next 4 abc.kv -o not.kv -q
grep -q 'next 4 tokens' out || fail "--verify: $(<out)"
absent not.kv
cat abc.kv | kvblend "${m[@]}" --verify --next 4 -o written.kv >out
kvinfo --check written.kv >/dev/null

# What cannot be.
seq 6000 >long.txt
expect 3 kvblend -m smollm2 --suffix-file long.txt a.kv
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
says "of the model's 30 layers"
head -c -300 b.kv >cut.kv
expect 3 kvblend -m smollm2 a.kv cut.kv -o not.kv
absent not.kv
cp b.kv damaged.kv
printf '\xff\xfe\xfd' | dd of=damaged.kv bs=1 seek=$(($(wc -c <b.kv) / 2)) conv=notrunc status=none
for threads in 1 3; do
  expect 3 kvblend -m smollm2 --threads $threads a.kv damaged.kv -o not.kv
  says 'checksum mismatch'
  absent not.kv
done
"$tools/../tests/synthetic_kv" 1 16 >other.kv
expect 3 kvblend -m smollm2 a.kv other.kv
says 'made with'
for wrong in '--order 0,0' '--order 3' '-r 101%' '-r x' '--select best' '--select qattn' '--check-layer 30' \
  '--measure x' '-r auto --gradual 20%' '-r auto --select qattn --suffix x' '--throughput 5X' '--floor 101' \
  '--next 0' '--max-kld -1' '--select first --gradual 20%:10%' '--gradual 10%:20%' '--dtype int8'; do
  # shellcheck disable=SC2086
  expect 2 kvblend -m smollm2 $wrong abc.kv
done
expect 4 kvblend -m smollm2 a.kv -o one.kv
