#!/usr/bin/env bash
# tokstream-sim as a user calls it: what it prints, what it draws, and what it refuses.
source "$(dirname "$0")/lib.sh"
few=(--seeds 2 --streams 2 --tokens 200)
value() { python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$@"; }

# The same bytes again, on any number of threads; others with another seed.
for threads in 1 2 7; do
  tokstream-sim "${few[@]}" --loss bursts:100,0.05 --json -j "$threads" >"$threads.json"
done
for threads in 2 7; do cmp 1.json $threads.json || fail "$threads threads change the result"; done
tokstream-sim "${few[@]}" --loss bursts:100,0.05 --json --seed 2 >other.json
! cmp -s 1.json other.json || fail 'the seed changes nothing'
[ "$(value 1.json 'len(r["schemes"])')" = 9 ] || fail 'not nine schemes'
[ "$(value 1.json 'all(s["tokens"] == 800 for s in r["schemes"])')" = True ] || fail 'tokens are lost'

# A row a scheme, and a drawing that is XML.
expect 0 tokstream-sim "${few[@]}" --loss iid:0.05 --schemes tcp,chatterbox+timer --plot a.svg
[ "$(grep -cE '^(tcp|chatterbox\+timer) ' out)" = 4 ] || fail "the tables: $(<out)"
python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' a.svg || fail 'no XML'
expect 4 tokstream-sim "${few[@]}" --loss iid:0.05 --plot a.svg
says 'a.svg: exists; give -f'
expect 0 tokstream-sim "${few[@]}" --loss iid:0.05 --plot a.svg -f

# Tokens of a model: 0.3 s between the second and the third is a stall of the source.
for i in 0 50 350 400; do echo "{\"t_ns\": $((i * 1000000)), \"id\": $i, \"text\": \"w$i\"}"; done >t.jsonl
tokstream-sim --trace t.jsonl -s rack --seeds 1 --streams 1 --json >t.json
[ "$(value t.json 'r["source_stall_ratio"], r["schemes"][0]["tokens"]')" = '(0.75, 4)' ] ||
  fail "the trace: $(<t.json)"
[ "$(value t.json 'r["schemes"][0]["text_bytes"]')" = 6 ] || fail 'ids of 1, 1, 2 and 2 bytes'
tokstream-sim --trace t.jsonl -s rack --seeds 1 --streams 1 --json --payload text >t.json
[ "$(value t.json 'r["schemes"][0]["text_bytes"]')" = 13 ] || fail 'text of 2, 3, 4 and 4 bytes'

# A link of 8 kbit/s takes 60 ms and more a packet: its queue fills, then drops.
echo '0 0.008' >slow
tokstream-sim "${few[@]}" --down slow --queue 2000 -s duplicate:2,chatterbox --json >slow.json
[ "$(value slow.json 'r["schemes"][0]["queue_drops"] > 100')" = True ] || fail 'the queue has no end'

# What is refused, and where it says it is wrong.
expect 2 tokstream-sim --loss iid:2
says "--loss 'iid:2'"
expect 2 tokstream-sim --loss bursts:100,0.9,0.5
expect 2 tokstream-sim --schemes tcp,udp
says "scheme 'udp'"
expect 2 tokstream-sim --threshold 0
expect 2 tokstream-sim --payload words
expect 2 tokstream-sim --seeds 0
expect 2 tokstream-sim --packet 100
expect 2 tokstream-sim --rate 0
expect 4 tokstream-sim --loss trace:absent.csv
says 'absent.csv'
expect 3 tokstream-sim --down t.jsonl
says 't.jsonl: line 1'
expect 3 tokstream-sim --trace slow
says 'slow: line 1'
expect 3 tokstream-sim --loss iid:1 --seeds 1 --streams 1
says 'nothing gets through'
