#!/usr/bin/env bash
# Importance is measured, kept, cut and joined; without the option nothing changes.
source "$(dirname "$0")/lib.sh"
has_model || skip "no model"
text=$data/report.txt
prefill() { kvprefill -m smollm2 --compute f32 --dtype bf16 --no-history -q "$@"; }
# rows FILE: the rows' names and bytes.
rows() { kvinfo --hex "$1" | grep -o ' importance\..*' | sort; }

prefill "$text" -o plain.kv
prefill --importance "$text" -o with.kv
prefill --importance --threads 1 "$text" | cmp - with.kv || fail 'threads make a difference'
[ "$(od -An -tu2 -j10 -N2 plain.kv)" -eq 0 ] || fail 'a file without it is version 1.1'
[ "$(od -An -tu2 -j10 -N2 with.kv)" -eq 1 ] || fail 'a file with it is version 1.0'
[ "$(rows with.kv | wc -l)" = 60 ] || fail "$(rows with.kv | wc -l) rows"
[ -z "$(rows plain.kv)" ] || fail 'plain.kv has it'
kvinfo with.kv | grep -q 'importance   K 2^' || fail "$(kvinfo with.kv)"
kvinfo --json with.kv | python3 -c '
import json, sys
rows = json.load(sys.stdin)["members"][0]["importance"]
assert [(r["layer"], r["kind"]) for r in rows] == [(l, k) for l in range(30) for k in "KV"]
assert all(r["log2_p1"] <= r["log2_p50"] < r["log2_p99"] for r in rows), rows'
kvinfo --json plain.kv | grep -q '"importance":\[\]' || fail 'plain.kv reports it'
python3 "$tests/refdecode.py" with.kv | python3 -c '
import json, sys
member = json.load(sys.stdin)[0]
count, rows = member["meta"]["token_count"], member["importance"]
assert len(rows) == 60 * count
# The first token is what most attention goes to, in nearly all layers above the lowest.
firsts = [rows[r * count:(r + 1) * count] for r in range(31, 60, 2)]
assert sum(row[0] == max(row) for row in firsts) > 12'

# The rest of the file is the same.
tensors() { kvinfo --hex "$1" | grep -o 'index.*payload_hash.*'; }
kvcat --no-history with.kv | cmp - with.kv
kvencode --lossless --no-history with.kv | kvdecode --no-history | cmp - with.kv
[ "$(tensors with.kv)" = "$(tensors plain.kv)" ] || fail 'other tensors'
[ "$(tensors with.kv | wc -l)" -ge 60 ] || fail 'no tensors'

# Cut and joined.
half=$(($(kvinfo --json with.kv | sed 's/.*"token_count":\([0-9]*\).*/\1/') / 2))
kvcat --no-history --tokens ":$half" with.kv >first
kvcat --no-history --tokens "$half:" with.kv >second
kvcat --join --no-history first second >joined
rows joined >a
rows with.kv | cmp - a || fail 'joined by tokens'
cat first second | kvcat --join - >joined
rows joined | cmp - a || fail 'joined from a pipe'
kvcat --tokens "$half:" plain.kv | kvcat --join first - >joined
[ -z "$(rows joined)" ] || fail 'joined with a part that has none'
kvcat --layers 3:4 with.kv >layer
rows layer >b
grep -F '[3]' a | cmp - b || fail 'one layer'

# A prefix's tokens are asked for by the new ones; with --only-new they are left out.
head -n 3 "$text" >head.txt
tail -n +4 "$text" >tail.txt
prefill head.txt -o prefix.kv
prefill --importance --prefix prefix.kv tail.txt -o both.kv
[ "$(rows both.kv | wc -l)" = 60 ] || fail 'behind a prefix'
prefill --importance --prefix prefix.kv --only-new tail.txt -o new.kv
[ "$(rows new.kv | wc -l)" = 60 ] || fail '--only-new'
prefill --importance --split 50 "$text" | kvinfo | grep -c importance >count
[ "$(<count)" -gt 1 ] || fail '--split'

# In a batch a file with it is not one without.
printf '{"id":"a","text":"One."}\n' >docs.jsonl
batch=(kvprefill -m smollm2 --jsonl docs.jsonl --out-dir caches)
"${batch[@]}" -q
expect 3 "${batch[@]}" --importance
says 'option'
"${batch[@]}" --importance -q -f
"${batch[@]}" --importance 2>err
says '0 written, 1 there already'
expect 3 "${batch[@]}"
