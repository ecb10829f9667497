#!/usr/bin/env bash
# A base's caches made those of a fine-tune, on the real model: exact where it must be, through files
# and pipes, by plans; and what is refused. Layers and groups are tests/unit/share_test.cc's.
source "$(dirname "$0")/lib.sh"
[ -x "$tools/kvshare" ] || skip "no LibTorch"
has_model || skip "no model"
cat >train.jsonl <<'END'
{"prompt": ["The tower was finished in 1874.\n", "Question: when?\nAnswer:"], "completion": " 1874", "group": "a"}
{"prompt": ["The bridge was opened in 1911.\n", "Question: when?\nAnswer:"], "completion": " 1911", "group": "b"}
END
kvtune -m smollm2 --compute f32 -q --steps 3 --batch 2 --rank 4 --layers 20:30 --lr 0.02 --warmup 0 -o tuned train.jsonl
m=(--compute f32 -q)
deviation() { kvdiff-layers --json --across-models "$1" "$2" | python3 -c 'import json, sys
(member,) = json.load(sys.stdin)["members"]
print(max(total["max"] for total in member["totals"]))'; }
below() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }' || fail "$3: $1, not below $2"; }
share() { kvshare -m smollm2+tuned "${m[@]}" "$@"; }

kvprefill -m smollm2 "${m[@]}" --no-history --hidden 10,20,25 "$data/report.txt" -o base.kv
kvprefill -m smollm2+tuned "${m[@]}" "$data/report.txt" -o own.kv
# From the first adapted layer on, and from the first of all: a prefill. From nothing: the cache.
share --layers 20:30 base.kv -o exact.kv
kvprefill -m smollm2 "${m[@]}" "$data/report.txt" -o plain.kv
share --layers 0:30 plain.kv -o whole.kv
share --layers none plain.kv -o none.kv
below "$(deviation exact.kv own.kv)" 1e-3 'exact'
below "$(deviation whole.kv own.kv)" 1e-3 'whole'
[ "$(deviation none.kv plain.kv)" = 0.0 ] || fail 'none'
[ "$(deviation none.kv own.kv)" != 0.0 ] || fail 'the adapter makes no difference'
kvinfo exact.kv | grep -q '^  shared .*but layers 20-29' || fail "$(kvinfo exact.kv)"
kvinfo none.kv | grep -q '^  shared .*all of smollm2' || fail "$(kvinfo none.kv)"
# The fine-tune goes on from it as from its own, and others do not.
for cache in exact own; do kvgen -m smollm2+tuned "${m[@]}" -n 8 $cache.kv 'Who?' >$cache.said; done
cmp exact.said own.said
expect 3 kvgen -m smollm2 -n 1 exact.kv 'Who?'

# Files, pipes, coded ones, any number of threads, E made on the way: the same.
share --layers 20:26 --no-history base.kv -o wanted.kv
cat base.kv | share --layers 20:26 --no-history | cmp - wanted.kv || fail 'a pipe'
share --layers 20:26 --no-history --threads 1 base.kv -o one.kv
below "$(deviation one.kv wanted.kv)" 1e-3 'one thread'
kvencode --lossless --no-history base.kv -o base.kvz
share --layers 20:26 --no-history <base.kvz | cmp - wanted.kv || fail 'coded'
share --layers 20:26 --compute-hidden smollm2 plain.kv -o made.kv
below "$(deviation made.kv wanted.kv)" 1e-3 '--compute-hidden'
share --layers 20:26 --read-rate 20M --stats base.kv -f -o made.kv 2>stats
python3 -c 'import json; s = json.load(open("stats"))
assert s["recomputed"] == [20, 26] and s["load_s"] > 0.9 * s["read_bytes"] / 20e6, s
assert s["total_s"] >= max(s["load_s"], s["compute_s"]), s' || fail "--stats: $(<stats)"
share --layers 20:26 --dtype bf16 base.kv | kvinfo | grep -q 'bf16' || fail '--dtype'
share --layers none plain.kv | kvinfo | grep -q '^  history .*kvshare' || fail 'no history'
! share --layers none --no-history plain.kv | kvinfo | grep '^  history' || fail '--no-history'

# A profile of the pair: a plan, which kvshare follows, and which is for these two only.
kvdiff-layers --profile -m smollm2 -m smollm2+tuned "${m[@]}" --answer 4 --step 10 --state state \
  --plot frontier.svg -o plan.json train.jsonl >table
grep -q 'the same before layer 20' table || fail "$(<table)"
grep -q '^> ' table || fail "no point chosen: $(<table)"
grep -q '</svg>' frontier.svg
# Measured once, it is told again at once; another point, by hand.
kvdiff-layers --profile -m smollm2 -m smollm2+tuned "${m[@]}" --answer 4 --step 10 --state state \
  -f --layers 10 -o plan.json --json train.jsonl >again.json
cmp plan.json again.json
python3 -c 'import json; p = json.load(open("plan.json"))
last = p["frontier"][-1]
assert (last["first"], last["end"]) == (20, 30) and last["kld"]["mean"] < 1e-6, last
assert p["first_different_layer"] == 20 and p["frontier"][0]["kld"]["mean"] > 0, p
assert p["sensitivity"][:20] == [0] * 20 and max(p["sensitivity"]) > 0, p' || fail "$(<plan.json)"
share --plan plan.json --budget layers:30 base.kv -o planned.kv
below "$(deviation planned.kv own.kv)" 1e-3 'a plan'
expect 3 kvshare -m smollm2 --plan plan.json base.kv
says 'a plan for smollm2+tuned'
expect 3 kvshare -m smollm2+tuned --plan plan.json own.kv
says 'made with'
sed -i 's/"r": 4/"r": 4, "x": 1/' tuned/adapter_config.json
sed 's/"version": 1/"version": 9/' plan.json >newer.json
expect 3 kvshare -m smollm2+tuned --plan newer.json base.kv
python3 -c 'import json; p = json.load(open("plan.json"))
for point in p["frontier"]: point["kld"]["mean"] += 1
json.dump(p, open("worse.json", "w"))'
expect 1 kvshare -m smollm2+tuned --plan worse.json --budget kld:0.5 base.kv
says 'no group of layers'
expect 3 kvdiff-layers --profile -m smollm2 -m smollm2+tuned --answer 5 --state state train.jsonl
says 'not the state of this profile'

# What cannot be.
expect 3 kvshare -m smollm2+tuned --layers 15:20 base.kv -o not.kv
says 'keeps no E at layer 15'
absent not.kv
cat base.kv base.kv >two.kv
for cache in two.kv /dev/null; do expect 3 kvshare -m smollm2+tuned --layers 20:30 $cache -o not.kv; done
head -c -300 base.kv >cut.kv
expect 3 kvshare -m smollm2+tuned --layers 20:30 cut.kv -o not.kv
cp base.kv damaged.kv
printf '\xff\xfe\xfd' | dd of=damaged.kv bs=1 seek=$(($(wc -c <base.kv) / 2)) conv=notrunc status=none
expect 3 kvshare -m smollm2+tuned --layers none damaged.kv -o not.kv
absent not.kv
"$tools/../tests/synthetic_kv" 1 16 >other.kv
expect 3 kvshare -m smollm2+tuned --layers none other.kv
expect 4 kvshare -m smollm2+tuned --layers none missing.kv
for wrong in '' '--layers 5:31' '--layers x' '--layers 1:2 --plan plan.json' '--budget kld:1' '--layers none --dtype int8'; do
  # shellcheck disable=SC2086
  expect 2 kvshare -m smollm2+tuned $wrong base.kv
done
for wrong in '--profile' '--profile -m smollm2' '-m smollm2 -m smollm2' '--profile -m smollm2 -m smollm2 --budget x'; do
  # shellcheck disable=SC2086
  expect 2 kvdiff-layers $wrong train.jsonl
done
