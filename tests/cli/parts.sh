#!/usr/bin/env bash
# Cutting, joining, coding and decoding give back what was there.
source "$(dirname "$0")/lib.sh"
plain() { kvcat --no-history "$@"; }
plain "$data/report.kv" >whole.kv

export KVTOOLS_PROFILES=$tests/golden  # of lossy_cachegen.kv and lossy_clp*.kv
for golden in "$tests"/golden/v1/*.kv; do
  case $golden in */unknown_codec.kv) continue ;; esac
  kvdecode --no-history "$golden" >a
  kvencode --lossless --no-history "$golden" | kvdecode --no-history >b
  # Coding drops optional frames of others, as kvcat does.
  cmp a b || fail "$golden does not come back"
done

tokens=$(kvinfo --json whole.kv | sed 's/.*"token_count":\([0-9]*\).*/\1/')
half=$((tokens / 2))
for file in report.kv report.kvz; do
  plain "$data/$file" >all
  plain --tokens ":$half" "$data/$file" >first
  plain --tokens "$half:" "$data/$file" >second
  plain --join first second | kvdecode --no-history >joined
  kvdecode --no-history all >decoded
  # The tiles differ where the cut was; what is in them does not.
  cmp <(kvdecode --no-history --tokens "$half:" joined) <(kvdecode --no-history --tokens "$half:" decoded)
  cmp <(kvdecode --no-history --tokens ":$half" joined) <(kvdecode --no-history --tokens ":$half" decoded)
  plain --layers 0:1 "$data/$file" >low
  plain --layers 1: "$data/$file" >high
  cmp <(plain --join low high) all || fail "layers of $file"
  cat low high | kvcat --no-history --join - | cmp - all || fail "layers of $file through a pipe"
  expect 3 kvcat --join second first
  expect 3 kvcat --join high low
  expect 3 kvcat --join first high
  plain --tokens "$((half + 1)):" "$data/$file" >gap
  expect 3 kvcat --join first gap
  says 'is due'
done

plain "$data/report.kv" "$data/report.kvz" >both
cmp <(plain --members 1 both) <(plain "$data/report.kvz")
cat both | kvcat --no-history --members 0 | cmp - whole.kv

# Of a file only what is asked for is read; the same through a pipe.
kvdecode --no-history --layers 0:1 --tokens 0:2 --stats "$data/report.kvz" >few 2>err
read_bytes=$(sed 's/.*"read_bytes":\([0-9]*\).*/\1/' err)
size=$(stat -c %s "$data/report.kvz")
[ "$size" -lt 1000000 ] || [ "$read_bytes" -lt $((size / 4)) ] || fail "read $read_bytes of $size"
kvdecode --no-history --layers 0:1 --tokens 0:2 <"$data/report.kvz" | cmp - few

kvinfo --json whole.kv | python3 -m json.tool >/dev/null
kvinfo --hex whole.kv >hex
grep -q META hex || fail '--hex does not name META'
