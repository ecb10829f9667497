#!/usr/bin/env bash
# kvdiff-layers over real files: what is equal, what is not, pipes, checks, formats.
source "$(dirname "$0")/lib.sh"
has_model || skip "noise stands in for report.kv, with values that are no numbers"
kvencode -q --codec q4_0 "$data/report.kv" >small.kvz
kvdiff-layers --max-rel-l2 0 "$data/report.kv" "$data/report.kvz" >same || fail 'lossless is not equal'
kvdiff-layers "$data/report.kv" small.kvz >table
for kind in K V; do
  grep -Eq "^ +all +$kind +0 +1.000000 +0" same || fail "no total of $kind in: $(tail -3 same)"
  awk -v kind=$kind '$1 == "all" && $2 == kind { exit !($3 > 0.01 && $3 < 0.3 && $4 > 0.9) }' table ||
    fail "4 bits: $(tail -2 table)"
done
# Through two pipes, and the decoded one, it says the same.
kvdiff-layers <(cat "$data/report.kv") <(cat small.kvz) | cmp - table
kvdecode <small.kvz | kvdiff-layers "$data/report.kv" - | cmp - table
kvdiff-layers --threads 1 "$data/report.kv" small.kvz | cmp - table
cat "$data/report.kv" "$data/report.kv" >two.kv
cat small.kvz small.kvz | kvdiff-layers two.kv - >twice
grep -q '^member 1$' twice || fail 'two members'

expect 1 kvdiff-layers --max-rel-l2 0.001 "$data/report.kv" small.kvz
says 'layer 0 K: relative L2'
diff out table || fail 'a check that fails leaves the table out'
expect 1 kvdiff-layers --max-token 0.001 "$data/report.kv" small.kvz
says 'layer 0 K token 0: '
expect 0 kvdiff-layers --max-token 5 "$data/report.kv" small.kvz

layers=$(grep -c '^ *[0-9].* K ' table)
for by in layer head channel token; do
  expect 0 kvdiff-layers --by $by --json "$data/report.kv" small.kvz
  python3 -c 'import json, sys
by, layers = sys.argv[1], int(sys.argv[2])
report = json.load(open("out"))
rows = report["members"][0]["rows"]
keys = {(r["layer"], r["kind"], r.get(by)) for r in rows}
assert len(keys) == len(rows) and report["by"] == by
tokens = report["members"][0]["token_count"]
assert len(rows) == 2 * tokens if by == "token" else len({r["layer"] for r in rows}) == layers
assert all(r["rel_l2"] >= 0 and r["cosine"] <= 1 + 1e-9 for r in rows)
assert sum(r["rel_l2"] > 0 for r in rows) > 0.9 * len(rows)' $by "$layers" || fail "--by $by --json"
  expect 0 kvdiff-layers --by $by --csv "$data/report.kv" small.kvz
  awk -F, 'NR == 1 { n = NF } NF != n { exit 1 }' out || fail "--by $by --csv"
done
expect 0 kvdiff-layers "$data/report.kv" small.kvz --plot map.svg
python3 -c 'import xml.etree.ElementTree as tree
assert sum("cell" in e.get("class", "") for e in tree.parse("map.svg").iter()) > 100'
expect 4 kvdiff-layers "$data/report.kv" small.kvz --plot map.svg
expect 0 kvdiff-layers "$data/report.kv" small.kvz --plot map.svg -f

expect 0 kvdiff-layers --stats "$data/report.kv"
[ "$(grep -c ' [KV] ' out)" = $((2 * layers)) ] || fail "--stats: $(head -3 out)"
expect 0 kvdiff-layers --stats --json "$data/report.kv"
python3 -m json.tool <out >/dev/null
expect 0 kvdiff-layers --stats --csv "$data/report.kv"

expect 2 kvdiff-layers "$data/report.kv"
expect 2 kvdiff-layers --by colour "$data/report.kv" small.kvz
expect 2 kvdiff-layers - -
says 'both caches from standard input'
expect 3 kvdiff-layers "$data/report.kv" "$tests/golden/v1/f32.kv"
says 'made with'
expect 3 kvdiff-layers --across-models "$data/report.kv" "$tests/golden/v1/f32.kv"
says 'kvcat --layers'
expect 3 kvdiff-layers two.kv "$data/report.kv"
says 'fewer members'
kvcat --tokens 0:100 "$data/report.kv" >head.kv
kvcat --tokens 1:101 "$data/report.kv" >tail.kv
expect 3 kvdiff-layers "$data/report.kv" head.kv
says 'kvcat --tokens'
expect 3 kvdiff-layers head.kv tail.kv
says '--across-texts'
expect 0 kvdiff-layers --across-texts head.kv tail.kv
head -c 20000 small.kvz >cut.kvz
expect 3 kvdiff-layers "$data/report.kv" cut.kvz
says truncated
