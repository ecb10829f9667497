#!/usr/bin/env bash
# kvencode.sh TOOLS SYNTHETIC_KV: kvencode and kvdecode: every bit back, whatever the form, the way
# in, the cut and the number of threads; only what is asked for is read.
set -uo pipefail
PATH=$1:$PATH synthetic_kv=$2
golden=$(cd "$(dirname "$0")/../golden/v1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

export KVTOOLS_PROFILES=$golden/..  # what lossy_cachegen.kv and lossy_clp*.kv name
profile=$golden/../lossy.kvprofile

failures=0
fail() { printf 'FAILED: %s\n' "$*" >&2; failures=$((failures + 1)); }
same() { cmp "$1" "$2" >/dev/null 2>&1 || fail "$1 and $2 differ"; }
# expect STATUS PATTERN COMMAND...: unless the status is 0, one line on stderr with the pattern.
expect() {
  local status=$1 pattern=$2 got
  shift 2
  "$@" >out 2>err
  got=$?
  [ "$got" = "$status" ] || fail "exit status $got instead of $status: $*: $(head -c 300 err)"
  [ "$status" != 0 ] || return 0
  [ "$(wc -l <err)" = 1 ] || fail "$(wc -l <err) lines on stderr: $*: $(head -c 300 err)"
  grep -Eq "^$1: .*($pattern)" err || fail "no '$pattern': $*: $(head -c 300 err)"
}

# Golden files: the stream without history and without optional frames comes back byte for byte.
count=0
for file in "$golden"/*.kv; do
  name=$(basename "$file" .kv)
  if [ "$name" = unknown_codec ]; then
    expect 3 'codec [0-9]+ is not known' kvdecode "$file"
    expect 3 'codec [0-9]+ is not known' kvencode --lossless "$file"
    continue
  fi
  case $name in
    planes_* | lossy_*) tool=kvdecode ;;
    *) tool=kvcat ;;
  esac
  expect 0 '' $tool --no-history "$file" -f -o plain.kv
  expect 0 '' kvencode --lossless --no-history "$file" -f -o coded.kvz
  expect 0 '' kvdecode --no-history coded.kvz -f -o back.kv
  same plain.kv back.kv
  kvencode -l 0 --no-history <"$file" | kvdecode --no-history >back.kv || fail "$name in a pipe"
  same plain.kv back.kv
  expect 0 '' kvencode -l 0 --no-history coded.kvz -f -o again.kvz
  same coded.kvz again.kvz
  expect 0 '' kvinfo --check coded.kvz
  count=$((count + 1))
done
[ $count -ge 15 ] || fail "only $count golden files"

# The same bytes for any number of threads, from a file and from a pipe; several members.
"$synthetic_kv" 2 1024 >sample.kv || fail synthetic_kv
kvcat --no-history sample.kv "$golden/bf16.kv" "$golden/members.kv" >three.kv || fail kvcat
expect 0 '' kvencode --lossless --no-history --threads 1 three.kv -o one.kvz
for threads in 2 3 16; do
  expect 0 '' kvencode --lossless --no-history --threads $threads three.kv -f -o many.kvz
  same one.kvz many.kvz
  expect 0 '' kvdecode --no-history --threads $threads many.kvz -f -o back.kv
  same three.kv back.kv
done
kvencode --lossless --no-history --threads 3 <three.kv >many.kvz || fail "kvencode in a pipe"
same one.kvz many.kvz

# Parts: as kvcat cuts them, and little of the file is read for them.
for part in '--layers 1' '--tokens 100:300' '--layers 0:1 --tokens 1000:1024' '--members 0'; do
  # shellcheck disable=SC2086
  expect 0 '' kvcat --no-history $part sample.kv -f -o part.kv
  expect 0 '' kvencode --lossless --no-history sample.kv -f -o sample.kvz
  # shellcheck disable=SC2086
  expect 0 '' kvdecode --no-history $part sample.kvz -f -o back.kv
  same part.kv back.kv
  # shellcheck disable=SC2086
  kvdecode --no-history $part <sample.kvz >back.kv || fail "kvdecode $part in a pipe"
  same part.kv back.kv
done
expect 0 '' kvencode --lossless --tokens-per-tile 64 sample.kv -o fine.kvz
kvdecode --layers 1 --tokens 64:128 --stats fine.kvz >part.kv 2>err || fail "--stats: $(cat err)"
python3 - <<'EOF' || fail "--stats says $(cat err)"
import json, os
stats = json.load(open("err"))
assert stats["file_bytes"] == os.path.getsize("fine.kvz")
assert stats["written_bytes"] == os.path.getsize("part.kv")
assert stats["read_bytes"] < stats["file_bytes"] / 8, stats
EOF

# Cut smaller: the same values in smaller tiles.
expect 0 '' kvencode --lossless --codec raw --no-history --tokens-per-tile 7 three.kv -o cut.kv
expect 0 '' kvencode --lossless --no-history --tokens-per-tile 7 three.kv -f -o cut.kvz
expect 0 '' kvdecode --no-history cut.kvz -f -o back.kv
same cut.kv back.kv
expect 2 'tokens-per-tile' kvencode --lossless --tokens-per-tile 0 three.kv

# Lossy codecs: the same bytes for any number of threads, coded and decoded; parts are the whole's;
# coded anew with other options; META says which.
for codec in "cachegen -l 1 --rope --profile $profile" \
  cachegen-code 'cachegen-code --level 1 --tables compact --chunk 30 --rope' \
  q8_0 'q4_0 --rope' 'kivi --bits 3' 'kivi --bits 2 --group 64 --rope'; do
  case $codec in
    cachegen\ *) cp "$golden/lossy.kv" values.kv ;;  # the only member that its profile is of
    *) kvcat --no-history "$golden/lossy.kv" "$golden/channels_f16.kv" >values.kv || fail kvcat ;;
  esac
  # shellcheck disable=SC2086
  expect 0 '' kvencode --codec $codec --no-history --threads 1 values.kv -f -o one.kvz
  # shellcheck disable=SC2086
  expect 0 '' kvencode --codec $codec --no-history --threads 3 values.kv -f -o many.kvz
  same one.kvz many.kvz
  expect 0 '' kvdecode --no-history --threads 1 one.kvz -f -o one.kv
  expect 0 '' kvdecode --no-history --threads 3 one.kvz -f -o many.kv
  same one.kv many.kv
  kvinfo --json one.kvz | grep -q "\"codec\":\"${codec%% *}" || fail "META of $codec"
  expect 0 '' kvdecode --no-history --members 0 --tokens 10:43 one.kvz -f -o part.kv
  expect 0 '' kvcat --no-history --members 0 --tokens 10:43 one.kvz -f -o cut.kvz
  expect 0 '' kvdecode --no-history cut.kvz -f -o back.kv
  same part.kv back.kv
done
expect 0 '' kvencode --codec kivi --bits 2 --no-history one.kvz -f -o two.kvz
expect 0 '' kvencode --codec kivi --bits 4 --no-history two.kvz -f -o four.kvz
[ "$(stat -c %s four.kvz)" -gt "$(stat -c %s two.kvz)" ] || fail 'coded anew with other options'

# Without a profile: levels are ecsq, one line says so.
kvcat --no-history "$golden/lossy_ecsq_values.kv" "$golden/lossy.kv" >values.kv || fail kvcat
HOME=/nowhere XDG_DATA_HOME='' kvencode -l 2 --no-history values.kv -f -o two.kvz 2>err ||
  fail 'kvencode -l 2 without a profile'
[ "$(grep -c 'kvcalibrate -m lossy -l 2' err)" = 1 ] || fail "$(cat err)"
expect 0 '' kvencode --codec ecsq --no-history --threads 1 values.kv -f -o one.kvz
same one.kvz two.kvz
[ "$(stat -c %s one.kvz)" -lt "$(($(stat -c %s values.kv) * 3 / 4))" ] || fail 'ecsq does not shrink'
expect 0 '' kvdecode --no-history one.kvz -f -o back.kv
kvinfo one.kvz | grep -q 'in ecsq' || fail "$(kvinfo one.kvz)"
[ "$(kvencode --codec ecsq -l 4 values.kv | wc -c)" -lt "$(kvencode --codec ecsq -l 1 values.kv | wc -c)" ] ||
  fail 'levels of ecsq'
# Progressive: what is left out need not be decoded, and parts are the whole's.
expect 0 '' kvencode --progressive --no-history values.kv -o whole.kvz
for quality in 0 1 2; do
  expect 0 '' kvcat --no-history --quality $quality whole.kvz -f -o less.kvz
  expect 0 '' kvdecode --no-history less.kvz -f -o less.kv
  kvcat --no-history --quality $quality <whole.kvz | cmp - less.kvz || fail 'quality from a pipe'
  kvdecode --no-history --members 0 --layers 0 less.kvz | cmp - <(kvcat --no-history --members 0 --layers 0 less.kv) ||
    fail "layer 0 of quality $quality"
done
same less.kvz whole.kvz
kvinfo whole.kvz | grep -q 'in thirds, quality 2' || fail "$(kvinfo whole.kvz)"
expect 2 'coded together' kvcat --members 0 --tokens 0:100 whole.kvz

# History: appended, or left out.
kvencode --lossless three.kv | kvdecode --members 0 | kvinfo --json >info.json || fail history
grep -q '"kvencode"' info.json || fail "no kvencode in the history"
grep -q '"kvdecode"' info.json || fail "no kvdecode in the history"

# Refused, and nothing under the final name.
mkdir clean
expect 2 'level 3 is lossy' kvencode --codec planes -l 3 three.kv -o clean/a.kvz
HOME=/nowhere XDG_DATA_HOME='' expect 3 'no profile of model .*kvcalibrate -m' \
  kvencode --codec clp -l 3 three.kv -o clean/a.kvz
expect 2 'ecsq has no --profile' kvencode --codec ecsq --profile x.kvp three.kv -o clean/a.kvz
expect 2 'clp has no --progressive' kvencode --codec clp --progressive three.kv -o clean/a.kvz
expect 2 'no --step, --no-importance and --progressive' \
  kvencode --codec q8_0 --progressive three.kv -o clean/a.kvz
expect 2 'levels 1 to 4' kvencode --progressive -l 5 three.kv -o clean/a.kvz
expect 2 'q8_0 is not lossless' kvencode --lossless --codec q8_0 three.kv -o clean/a.kvz
expect 2 'q8_0 has no --bits' kvencode --codec q8_0 --bits 4 three.kv -o clean/a.kvz
expect 2 'needs a --profile' kvencode --codec cachegen three.kv -o clean/a.kvz
expect 2 'without --rope|made with --rope' kvencode --codec cachegen --profile "$profile" \
  "$golden/lossy.kv" -o clean/a.kvz
expect 3 'of another model' kvencode --codec cachegen -l 1 --rope --profile "$profile" \
  three.kv -o clean/a.kvz
KVTOOLS_PROFILES='' expect 3 'lossy_cachegen.kv: .*profile [0-9a-f]{16} is not in .*KVTOOLS_PROFILES' \
  kvdecode "$golden/lossy_cachegen.kv" -o clean/a.kv
expect 2 'tables zip' kvencode --codec cachegen-code --tables zip three.kv -o clean/a.kvz
expect 2 'bits 5 is not from 2 to 4' kvencode --codec kivi --bits 5 three.kv -o clean/a.kvz
expect 2 '--lossless' kvencode three.kv -o clean/a.kvz
expect 2 'zip' kvencode --lossless --codec zip three.kv -o clean/a.kvz
expect 2 'member 9' kvdecode --members 0,9 one.kvz -o clean/a.kv
expect 2 'threads' kvdecode --threads 0 one.kvz -o clean/a.kv
size=$(stat -c %s sample.kvz)
for bytes in 100 5000 $((size / 2)) $((size - 1)); do
  head -c $bytes sample.kvz >short.kvz
  expect 3 'short.kvz' kvdecode short.kvz -o clean/a.kv
  expect 3 'short.kvz' kvencode --lossless short.kvz -o clean/a.kvz
done
cp sample.kvz bad.kvz
printf X | dd of=bad.kvz bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
expect 3 'bad.kvz.*checksum' kvdecode bad.kvz -o clean/a.kv
expect 3 '-: .*checksum' kvdecode -o clean/a.kv <bad.kvz
[ -z "$(ls -A clean)" ] || fail "left behind: $(ls -A clean)"
[ $failures = 0 ]
