#!/usr/bin/env bash
# rate_quality.sh TOOLS DATA RATE_QUALITY: the benchmark on one window of 64 tokens. What loses
# nothing has a KLD of exactly 0, fp8 has not; a run goes on where it was killed.
source "$(dirname "$0")/lib.sh"
PATH=$(dirname "${3:?the benchmark}"):$PATH
has_model || skip 'no model'
ids=$(seq -s, 300 7 853)  # 80
echo "{\"id\":\"w\",\"domain\":\"numbers\",\"context\":64,\"tokens\":[$ids]}" >windows.jsonl

# measure STATUS RECIPE...
measure() {
  local wanted=$1 status=0 arguments=()
  shift
  for recipe; do arguments+=(--recipe "$recipe"); done
  rate_quality run --windows windows.jsonl --work w --continuation 16 "${arguments[@]}" 2>err ||
    status=$?
  [ "$status" = "$wanted" ] || fail "status $status, not $wanted: $(<err)"
}
# shellcheck disable=SC2016  # for the recipe's shell
fp8='fp8=kvprefill -q -m "$RQ_MODEL" --compute f32 --no-bos --jsonl "$RQ_CONTEXT" --dtype fp8_e4m3'
recipes=(raw=cat 'lossless=kvencode --lossless' 'zstd/3=zstd -q -3|||zstd -q -d' "$fp8")
measure 0 "${recipes[@]}"
says '4 measured, 0 there already, 0 failed'
[ "$(wc -l <w/results.jsonl)" = 8 ] || fail 'lines'
for probe in continuation copy; do
  rate_quality report w/results.jsonl --probe $probe --json --plot $probe.svg --at-kld 0.01 \
    --versus raw >$probe.json
  python3 - $probe.json <<'PYTHON' || fail "$probe.json"
import json
import sys
points = {p["recipe"]: p for p in json.load(open(sys.argv[1]))["points"]}
assert list(points) == ["raw", "lossless", "zstd/3", "fp8"], list(points)
for name in "raw", "lossless", "zstd/3":
    p = points[name]
    assert p["kld"]["value"] == p["kld_p99"] == p["nll_above"]["value"] == 0, p
    assert p["top1"]["value"] == 1, p
assert points["fp8"]["kld"]["value"] > 1e-6, points["fp8"]
assert points["raw"]["of_file"] == 1 and 16 < points["raw"]["bits"] < 17, points["raw"]
assert points["lossless"]["bits"] < 12 and 8 < points["fp8"]["bits"] < 9, points
PYTHON
  python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' $probe.svg ||
    fail "$probe.svg is no XML"
done

# Nothing twice; a line that a kill tore off is measured again, and its window's other probe.
measure 0 "${recipes[@]}"
says '0 measured, 4 there already, 0 failed'
truncate -s -20 w/results.jsonl
measure 0 "${recipes[@]}"
says '1 measured, 3 there already, 0 failed'
rate_quality report w/results.jsonl >table
grep -q '^| fp8 |' table || fail "$(<table)"
# A recipe that changed under its name is another one.
measure 0 'raw=cat -u'
says '1 measured, 0 there already'

# What fails is said and stops no other.
measure 1 'broken=false' 'unread=gzip -c' 'piped=false | cat' 'again=cat'
for text in "'false' ended with status 1" 'FAILED w unread' 'FAILED w piped' '1 measured, 0 there already, 3 failed'; do
  says "$text"
done
expect 2 rate_quality run --windows windows.jsonl --work w --recipe nothing
expect 3 rate_quality run --windows windows.jsonl --work w --recipe raw=cat --continuation 8
expect 3 rate_quality report w/results.jsonl --probe none
expect 2 rate_quality report w/results.jsonl --only raw --versus none
echo '{"setup":1}' >bad.jsonl
expect 3 rate_quality report bad.jsonl
says 'bad.jsonl: line 1'
status=0
KVTOOLS_SHARED=/nowhere rate_quality windows 2>err || status=$?
[ $status = 125 ] || fail "status $status without texts"
says 'SKIPPED: no texts in'
