#!/usr/bin/env bash
# The exit statuses of kv(7), with one clear line each.
source "$(dirname "$0")/lib.sh"
for tool in kvinfo kvcat kvencode kvdecode; do
  option=()
  [ $tool = kvencode ] && option=(--lossless)
  expect 4 $tool "${option[@]}" no-such-file
  says 'open no-such-file: No such file or directory'
  expect 4 $tool "${option[@]}" /
  printf 'not a kv stream at all' >text
  expect 3 $tool "${option[@]}" text
  says 'text: '
  : >empty
  expect 3 $tool "${option[@]}" empty
  head -c 2000 "$data/report.kv" >cut.kv
  expect 3 $tool "${option[@]}" cut.kv
  says truncated
done
expect 2 kvencode "$data/report.kv"
expect 2 kvencode -l 7 "$data/report.kv"
says 'levels 1 to 4'
HOME=/nowhere XDG_DATA_HOME='' KVTOOLS_PROFILES='' expect 3 kvencode --codec clp -l 3 "$data/report.kv"
says 'kvcalibrate -m'
expect 2 kvencode --lossless --codec zip "$data/report.kv"
expect 2 kvcat --tokens 5:2 "$data/report.kv"
expect 2 kvcat --tokens 0:99999999 "$data/report.kv"
expect 2 kvcat --layers 500:600 "$data/report.kv"
expect 2 kvcat --members 7 "$data/report.kv"
expect 2 kvcat --tokens x "$data/report.kv"
expect 2 kvcat --join --tokens 0:2 "$data/report.kv"
expect 3 kvcat --join "$data/report.kv"
expect 3 kvcat --join "$data/report.kv" "$data/report.kv"
says 'no parts of one cache'
expect 5 kvinfo -m no-such-model
expect 0 kvinfo --check -q "$data/report.kv"
[ ! -s out ] || fail 'quiet --check speaks'
# What --check verified is all that --hex shows, and all the bytes of the file.
cat "$tests/golden/v1/members.kv" "$tests/golden/v1/optional_frames.kv" >several.kv
kvinfo --hex several.kv >fields
count() { grep -c " $1 " fields; }
frames=$(count frame.type) tiles=$(count tile.kind) bytes=$(wc -c <several.kv)
expect 0 kvinfo --check several.kv
grep -qF "several.kv: ok, $(count member.magic) members, $frames frames, $tiles tiles, $bytes bytes," out ||
  fail "--check: $(<out)"
json="\"verified\":{\"members\":$(count member.magic),\"frames\":$frames,\"tiles\":$tiles,\"bytes\":$bytes}"
expect 0 kvinfo --check --json several.kv
grep -qF "$json" out || fail "--check --json: not $json"
expect 0 kvinfo --json "$tests/golden/v1/members.kv"
! grep -q verified out || fail 'an index alone counts as verified'
expect 0 kvinfo --check "$tests/golden/v1/tiny.kv"
grep -q ': ok, 1 member, 6 frames, 2 tiles, 1072 bytes, hash ' out || fail "--check: $(<out)"
cat "$data/report.kv" "$tests/golden/v1/f32.kv" >two.kv
if [ -x "$tools/kvgen" ]; then
  expect 2 kvprefill "$data/report.txt"
  expect 5 kvprefill -m no-such-model "$data/report.txt"
  expect 2 kvprefill -m smollm2 --shard 3/2 "$data/report.txt"
fi
if has_model; then
  expect 3 kvgen -m smollm2 "$tests/golden/v1/f32.kv" x
  says 'not with'
  expect 3 kvgen -m smollm2 two.kv x
  kvcat --tokens 5: "$data/report.kv" >tail.kv
  expect 3 kvgen -m smollm2 tail.kv x
  says 'begins at position 5'
  kvcat --layers 0:5 "$data/report.kv" >few.kv
  expect 3 kvgen -m smollm2 few.kv x
  expect 3 kvprefill -m smollm2 empty
  says 'is empty'
  expect 2 kvprefill -m smollm2 --hidden 99 "$data/report.txt"
  expect 2 kvprefill -m smollm2 --dtype int8 "$data/report.txt"
  if [ ! -e /dev/nvidia0 ]; then
    expect 5 kvgen -m smollm2 --device cuda --no-cache x
  fi
fi
