#!/usr/bin/env bash
# Recipes beside a full prefill, on the real model and short prompts: what is exact has no divergence,
# a stage gives the same cache in the process and in a shell, a run goes on where it was killed, and
# checks decide the exit status. Numbers are tests/unit/eval_report_test.cc's.
source "$(dirname "$0")/lib.sh"
has_model || skip 'no model'
python3 - "$data/report.txt" 3 >prompts.jsonl <<'PYTHON'
import json, sys
words = open(sys.argv[1]).read().split()
for i in range(int(sys.argv[2])):
    chunks = [" ".join(words[30 * j + 7 * i :][:25]) + "\n" for j in range(3)]
    print(json.dumps({"id": f"p/{i}", "chunks": chunks, "question": "Who?", "answers": ["Nobody", words[3]]}))
PYTHON
eval_() { kveval -q -m smollm2 --compute f32 -n 6 "$@" </dev/null; }
# figures FILE EXPRESSION: r[recipe] is what the report says of it.
figures() {
  python3 -c 'import json, sys
report = json.load(open(sys.argv[1]))
r = {of["recipe"]: of for of in report["recipes"]}
full = report["full"]
assert eval(sys.argv[2]), json.dumps([dict(of, prompts=0) for of in report["recipes"]], indent=1)' "$1" "$2" ||
    fail "$1: $2"
}

# What is exact, whatever the way; what is not; what an answer, bytes and tokens are.
# shellcheck disable=SC2016  # kveval knows the variable
suffix='kvblend -r 100% --suffix "$KVEVAL_QUESTION"'
eval_ --json --work results --recipe 'kvblend -r 0' --recipe kvcat --recipe 'kvcat --members 0' \
  --recipe 'kvblend -r 100%' --recipe "$suffix" --recipe 'kvencode -l 1 --codec ecsq | kvdecode' prompts.jsonl >report.json
figures report.json "all(r[of]['kld']['value'] < 1e-6 and r[of]['top1']['value'] == 1 and abs(r[of]['nll']['value']) < 1e-3
  for of in ('kvcat --members 0', 'kvblend -r 100%', '''$suffix'''))"
figures report.json "r['kvcat']['kld'] == r['kvblend -r 0']['kld'] and r['kvcat']['kld']['value'] > 1e-3"
figures report.json "r['kvencode -l 1 --codec ecsq | kvdecode']['bytes'] < 0.5 * r['kvcat']['bytes']"
figures report.json "r['kvcat']['computed'] < r['kvcat --members 0']['computed'] < full['computed'] == report['tokens']"
figures report.json "abs(r['kvcat --members 0']['flops_share'] - r['kvcat --members 0']['computed'] / full['computed']) < 0.1"
figures report.json "all(of['in_process'] and of['ttft_s'] > 0 and of['f1'] is not None for of in r.values())"
figures report.json "[p['id'] for p in full['prompts']] == ['p/0', 'p/1', 'p/2'] and report['predictions'] <= 18"
figures report.json "r['kvcat']['versus']['kld_ratio']['value'] == 1 and 'versus' not in r['kvblend -r 0']"
# As one text there is nothing to mend.
eval_ --json --whole --recipe kvcat --dtype f32 prompts.jsonl >whole.json
figures whole.json "r['kvcat']['kld']['value'] < 1e-9"

# In the process and in a shell: the same caches, byte by byte.
same() { # STAGE IN A SHELL
  eval_ --keep kept --recipe "$1" --recipe "$2" --json one.jsonl >two.json
  figures two.json 'sorted(of["in_process"] for of in r.values()) == [False, True]'
  figures two.json 'len({of["kld"]["value"] for of in r.values()}) == 1'
  [ "$(find kept -name '*.kv' | wc -l)" = 2 ] || fail "$1: $(ls kept)"
  cmp kept/* || fail "not the same: $1"
  rm -r kept
}
head -n 1 prompts.jsonl >one.jsonl
m='-m smollm2 --compute f32 -q'
same 'kvblend -r 50% --no-history' "env kvblend $m -r 50% --no-history"
# shellcheck disable=SC2016
same 'kvblend --select qattn -r 9 --no-history --suffix "$KVEVAL_QUESTION"' \
  "env kvblend $m --select qattn -r 9 --no-history --suffix \"\$KVEVAL_QUESTION\""
same 'kvencode -l 2 --codec ecsq --no-history' 'env kvencode -l 2 --codec ecsq --no-history'
same 'kvencode --lossless --no-history - | kvdecode --no-history' 'env kvencode --lossless --no-history | env kvdecode --no-history'
same 'kvcat --no-history --members 0:2 -' 'env kvcat --no-history --members 0:2'
same 'kvencode --codec q4_0 --no-history | kvcat --no-history | kvblend --select random --seed 3 -r 30% --dtype f16 --no-history' \
  "env kvencode --codec q4_0 --no-history | kvblend $m --select random --seed 3 -r 30% --dtype f16 --no-history"
# A kvblend with a model of its own is not ours to run.
eval_ --json --recipe "kvblend $m -r 0" --recipe 'kvcat <&0' one.jsonl >own.json
figures own.json 'not any(of["in_process"] for of in r.values()) and all(of["computed"] is None for of in r.values())'

# What was measured is not measured again; a run that was killed goes on; shards share a file.
cp results before
again=(--recipe kvcat --recipe 'kvblend -r 100%' prompts.jsonl)
eval_ --work results "${again[@]}" >out
cmp results before || fail 'measured again'
grep -q '^kvblend -r 100%  *0.00000' out || fail "table: $(<out)"
kveval -q -m smollm2 --compute f32 -n 6 --work killed "${again[@]}" >out 2>err </dev/null &
until [ -e killed ] && [ "$(wc -l <killed)" -ge 3 ]; do sleep 0.1; done
kill -9 $!
wait $! 2>/dev/null && fail 'it was too fast to be killed'
truncate -s -7 killed
lines=$(wc -l <killed)
eval_ --work killed --json "${again[@]}" >resumed.json
[ "$(head -n "$lines" killed | wc -l)" = "$lines" ] || fail 'lines are gone'
eval_ --work results --json "${again[@]}" >straight.json
python3 - <<'PYTHON' || fail 'another result'
import json
a, b = (json.load(open(name)) for name in ("resumed.json", "straight.json"))
for x, y in zip(a["recipes"], b["recipes"]):
    assert x["kld"] == y["kld"] and x["top1"] == y["top1"] and x["nll"] == y["nll"] and len(x["prompts"]) == 3, (x, y)
PYTHON
for shard in 1/2 2/2; do eval_ --work sharded --shard $shard --recipe kvcat prompts.jsonl >shard.txt; done
cp sharded before
eval_ --work sharded --recipe kvcat prompts.jsonl >out
cmp sharded before || fail 'shards did not take all'
grep -q '^3 prompts' out || fail "$(<out)"

# Checks: within, beyond, worse than before.
checked=(--work results --recipe kvcat --recipe 'kvblend -r 100%' prompts.jsonl)
expect 0 kveval -q -m smollm2 --compute f32 -n 6 --max-kld 9 --min-top1 0 --max-nll 99 --junit good.xml "${checked[@]}"
expect 1 kveval -q -m smollm2 --compute f32 -n 6 --max-kld 1e-5 --junit bad.xml --plot plot.svg "${checked[@]}"
grep -q '^2 checks, 1 failed' out || fail "$(<out)"
grep -q 'FAILED kvcat: max-kld' out || fail "$(<out)"
python3 - <<'PYTHON' || fail 'XML'
import xml.etree.ElementTree as tree
import xml.dom.minidom
good, bad = (tree.parse(name).getroot() for name in ("good.xml", "bad.xml"))
assert good.get("tests") == "6" and good.get("failures") == "0", good.attrib
assert bad.get("failures") == "1" and bad.find(".//failure") is not None, bad.attrib
xml.dom.minidom.parse("plot.svg")
PYTHON
expect 0 kveval -q -m smollm2 --compute f32 -n 6 --baseline straight.json "${checked[@]}"
python3 - <<'PYTHON'
import json
report = json.load(open("straight.json"))
for prompt in report["recipes"][0]["prompts"]:
    prompt["kld"] /= 10
json.dump(report, open("better.json", "w"))
PYTHON
expect 1 kveval -q -m smollm2 --compute f32 -n 6 --baseline better.json "${checked[@]}"
grep -q 'FAILED kvcat: baseline: kld' out || fail "$(<out)"

# What cannot be.
bad() { # STATUS WORD...: of a run with one recipe at least
  local status=$1
  shift
  expect "$status" kveval -m smollm2 --compute f32 -n 6 "$@"
}
bad 2 prompts.jsonl
bad 2 --recipe "kvcat 'x" prompts.jsonl
says 'a quote is not closed'
bad 2 --recipe 'kvblend --nope' prompts.jsonl
says 'kvblend: '
bad 2 --recipe 'kvblend --select best' one.jsonl
bad 2 --recipe kvcat --question 'no place' prompts.jsonl
bad 2 --recipe kvcat --versus kvblend one.jsonl
bad 2 --recipe kvcat --shard 3/2 prompts.jsonl
bad 2 --recipe kvcat --shard 2/2 one.jsonl
bad 3 --recipe 'kvcat --members 1' one.jsonl
says "another text than the prompt, from its token 0 on"
bad 3 --recipe 'kvcat --layers 0:4' one.jsonl
bad 3 --recipe 'head -c 1000' one.jsonl
says "on prompt 'p/0'"
bad 4 --recipe 'kvcat | false' one.jsonl
says "'false' ended with status 1"
bad 3 --recipe kvcat --baseline prompts.jsonl one.jsonl
says 'not a report of kveval --json'
bad 3 --recipe kvcat --baseline straight.json --question 'Q {} A' one.jsonl
bad 3 --recipe kvcat --work prompts.jsonl one.jsonl
says 'not what kveval --work writes'
bad 4 --recipe kvcat --junit good.xml one.jsonl
says 'exists; give -f'
bad 4 --recipe kvcat missing.jsonl
bad 3 --recipe kvcat
says 'holds no prompts'
python3 -c 'import json; print(json.dumps({"context": "word " * 9000, "question": "?"}))' >long.jsonl
bad 3 --recipe kvcat long.jsonl
says "over the model's context of 8192"
expect 5 kveval -m nosuchmodel --recipe kvcat one.jsonl
