#!/usr/bin/env bash
# tokstream-send and tokstream-recv, the real programs, through a relay that loses, doubles, delays,
# flips, cuts and replays packets, cuts the network, and moves the receiver: the text is the same, or
# there is a clear failure; never another text.
source "$(dirname "$0")/lib.sh"
relay=$tests/cli/lossy_relay.py
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
head -c 24 /dev/urandom | base64 >secret
head -c 24 /dev/urandom | base64 >other

# Words with characters of one to four bytes, as a model would say them: SECONDS, 50 a second.
python3 - <<'PYTHON'
import random
rng = random.Random(1)
words = [" the", " of", "é", " naïve", " 漢字", " 🙂", "\n", " a", ".", " stream"]
open("text", "w").write("".join(rng.choice(words) for _ in range(100)))
PYTHON
speak() { # SECONDS: as they would come, in pieces that may end within a character
  python3 -c 'import sys, time
data = open("text", "rb").read()
pieces = int(float(sys.argv[1]) * 50)
for i in range(pieces):
    sys.stdout.buffer.write(data[len(data) * i // pieces:len(data) * (i + 1) // pieces])
    sys.stdout.buffer.flush()
    time.sleep(0.02)' "$1" 2>/dev/null
}
port_of() { # FILE: once it says where it listens
  for _ in $(seq 1000); do
    if [ -e "$1" ]; then
      sed -nE 's/^(.*listening on .*:)?([0-9]+)$/\2/p' "$1" | grep . && return
    fi
    sleep 0.02
  done
  fail "no port in $1: $(cat "$1")"
}
start_send() { # options; its port is then $port
  local patience=(--timeout 5)
  [[ " $* " == *' --timeout '* ]] && patience=()
  rm -f send.err
  tokstream-send --listen 127.0.0.1:0 "${patience[@]}" --stats "$@" <&0 2>send.err & send=$!
  pids+=("$send")
  port=$(port_of send.err)
}
start_relay() { # ways; its port is then $through
  rm -f relay.port
  python3 "$relay" "$port" "$@" >relay.port 2>relay.err & pids+=($!)
  through=$(port_of relay.port)
}
count() { sed -nE "s/.*\"$1\":([0-9]+).*/\1/p" "$2"; }
both_end() { # WHAT: exit 0 on both sides and the same text
  wait "$recv" || fail "$1: receiver: $(<recv.err)"
  wait "$send" || fail "$1: sender: $(<send.err)"
  cmp text got || fail "$1: another text"
}

# Each damage, in clear and sealed.
for key in '' '--key secret'; do
  for ways in 'loss=0.3' 'late=0.4 twice=0.3' 'flip=0.3' 'cut=0.3' 'replay=0.5' \
    'loss=0.2 late=0.2 twice=0.2 flip=0.1 cut=0.1 replay=0.2'; do
    # shellcheck disable=SC2086
    start_send $key < <(speak 1.5)
    # shellcheck disable=SC2086
    start_relay 7 $ways
    # shellcheck disable=SC2086
    tokstream-recv "127.0.0.1:$through" $key --stats >got 2>recv.err & recv=$!
    both_end "$key $ways"
    case $ways in
      flip*) [ "$(($(count malformed recv.err) + $(count foreign recv.err)))" -gt 0 ] || fail 'no flipped bit was seen' ;;
      cut*) [ "$(($(count malformed recv.err) + $(count foreign recv.err)))" -gt 0 ] || fail 'no cut was seen' ;;
      replay*) [ "$(($(count replayed recv.err) + $(count replayed send.err)))" -gt 0 ] || fail 'no replay was seen' ;;
    esac
  done
done

# Other schemes over the same path.
for scheme in chatterbox tcp rack duplicate:2 red:2 mosh fec:1; do
  start_send --scheme "$scheme" < <(speak 1)
  start_relay 8 loss=0.15 late=0.1
  tokstream-recv "127.0.0.1:$through" >got 2>recv.err & recv=$!
  both_end "$scheme"
done

# Small packets, padded.
start_send --pad 64 --packet 300 --key secret < <(speak 1)
start_relay 8 loss=0.15 late=0.1
tokstream-recv "127.0.0.1:$through" --key secret >got 2>recv.err & recv=$!
both_end 'padded'

# The receiver moves in mid-stream: the sender goes after it.
start_send --key secret < <(speak 3)
start_relay 9 loss=0.05 roam=1
tokstream-recv "127.0.0.1:$through" --key secret >got 2>recv.err & recv=$!
both_end 'another address'

# Nothing comes back for ten seconds, over the end of the stream; then nothing at all for three.
start_send --timeout 15 < <(speak 3)
start_relay 10 acks_lost=0.5:10.5
tokstream-recv "127.0.0.1:$through" >got 2>recv.err & recv=$!
both_end 'no answers'
start_send --timeout 10 < <(speak 3)
start_relay 11 black=1:4
tokstream-recv "127.0.0.1:$through" >got 2>recv.err & recv=$!
both_end 'a cut'

# The receiver is killed and started again: it goes on where its file ends.
rm -f got
start_send --key secret --timeout 10 < <(speak 3)
start_relay 12 loss=0.1
tokstream-recv "127.0.0.1:$through" --key secret --append got 2>recv.err & recv=$!
sleep 1.2
kill -9 $recv
wait $recv || true
[ -s got ] || fail "nothing came before the kill"
! cmp -s text got || fail "not killed in mid-stream"
tokstream-recv "127.0.0.1:$through" --key secret --append got --stats 2>recv.err & recv=$!
both_end 'killed and started again'
[ "$(count text_bytes recv.err)" = "$(wc -c <text)" ] || fail "counted: $(<recv.err)"

# The sender is killed and started again: the receiver waits for what it has not, if the text is the
# same; from another one it takes nothing.
for again in text other_text; do
  tr 'a-y' 'b-z' <text >other_text
  start_send --key secret < <(speak 3)
  start_relay 13 loss=0.05
  tokstream-recv "127.0.0.1:$through" --key secret >got 2>recv.err & recv=$!
  sleep 1.2
  kill -9 "$send"
  wait "$send" || true
  [ -s got ] || fail 'nothing came before the kill'
  cp got before
  tokstream-send --listen "127.0.0.1:$port" --key secret --timeout 5 -q $again 2>send.err & send=$!
  pids+=("$send")
  if [ $again = text ]; then
    both_end 'a sender started again'
  else
    status=0
    wait "$recv" || status=$?
    cp recv.err err
    judge $status 3 'what is here is not what was sent' 'tokstream-recv'
    if ! cmp -n "$(wc -c <before)" got before || ! cmp -n "$(wc -c <got)" got text; then
      fail "something came from another text"
    fi
    kill "$send"
    wait "$send" || true
  fi
done

# A file that is another text's beginning is found out.
printf 'nonsense' >wrong
start_send <text
status=0
tokstream-recv "127.0.0.1:$port" --append wrong 2>err || status=$?
judge $status 3 'what is here is not what was sent' 'tokstream-recv'
[ "$(<wrong)" = nonsense ] || fail 'something was added to another text'
kill "$send"
wait "$send" || true
cat text text >longer
start_send --timeout 1 <text
status=0
tokstream-recv "127.0.0.1:$port" --append longer 2>err || status=$?
judge $status 3 'more here than in the stream' 'tokstream-recv'
wait "$send" && fail 'the sender found a receiver'

# Several receivers, late ones too, on IPv6; and several streams.
tokstream-send --listen '[::1]:0' --receivers 3 2>send.err < <(speak 1) & send=$!
port=$(port_of send.err)
for i in 1 2 3; do
  tokstream-recv "[::1]:$port" >"got$i" & last[i]=$!
  sleep 0.4
done
for i in 1 2 3; do wait "${last[i]}"; cmp text "got$i"; done
wait "$send"

# Answers come from the address that was asked, whichever of ours it is: others are dropped.
for listen in '' 0.0.0.0; do
  rm -f send.err
  tokstream-send --listen "$listen:0" --key secret --receivers 1 2>send.err <text & send=$!
  port=$(port_of send.err)
  tokstream-recv --key secret --timeout 5 "127.0.0.2:$port" >got 2>recv.err & recv=$!
  both_end "a sender on '$listen' at its second address"
done
for i in 1 2 3; do
  for stream in a b; do echo "{\"stream\": \"$stream\", \"text\": \"$stream$i \"}"; done
done >streams.jsonl
echo '{"stream": "a", "end": true}' >>streams.jsonl
start_send --jsonl --receivers 2 streams.jsonl
[ "$(tokstream-recv "127.0.0.1:$port" --stream a)" = 'a1 a2 a3 ' ] || fail 'stream a'
status=0
tokstream-recv "127.0.0.1:$port" --stream c >/dev/null 2>err || status=$?
judge $status 3 'no such stream' 'tokstream-recv'
[ "$(tokstream-recv "127.0.0.1:$port" --stream b)" = 'b1 b2 b3 ' ] || fail 'stream b'
wait "$send"

# Ids, a line each; also where the receiver has some, and half of one's digits.
for i in 0 1 127 128 300 49151 2000000000; do echo "{\"id\": $i, \"text\": \"no\"}"; done >ids.jsonl
printf '%s\n' 0 1 127 128 300 49151 2000000000 >ids
for has in '' $'0\n1\n12' $'0\n1\n127\n128\n300\n49151\n2000000000\n'; do
  printf %s "$has" >got
  start_send --jsonl --ids ids.jsonl
  tokstream-recv "127.0.0.1:$port" --ids --append got --stats 2>recv.err || fail "ids: $(<recv.err)"
  wait "$send"
  cmp got ids || fail 'other ids'
done
[ "$(count text_bytes recv.err)" = 15 ] || fail "ids of 1, 1, 1, 2, 2, 3 and 5 bytes: $(<recv.err)"
start_send --jsonl --ids ids.jsonl
status=0
tokstream-recv "127.0.0.1:$port" >got 2>err || status=$?
judge $status 3 'the stream is ids; give --ids' tokstream-recv
[ ! -s got ] || fail 'varints as text'
kill "$send"
wait "$send" || true
echo text >got
expect 3 tokstream-recv "127.0.0.1:$port" --ids --append got
says 'got: byte 0: not ids'
expect 2 tokstream-send --ids

# The wrong key, and none, get nothing; nobody there at all is said too.
start_send --key secret --timeout 3 <text
for key in '--key other' ''; do
  status=0
  # shellcheck disable=SC2086
  tokstream-recv "127.0.0.1:$port" $key --timeout 1 >got 2>err || status=$?
  judge $status 4 'nothing was heard for 1 s; 0 bytes are here' "tokstream-recv $key"
  [ ! -s got ] || fail 'something came without the key'
done
status=0
wait "$send" || status=$?
[ $status = 4 ] || fail "a sender without receivers: $status"
grep -q 'tokstream-send: 127.0.0.1:.*: nothing was heard for 3 s; 0 of 1 receivers' send.err ||
  fail "said: $(<send.err)"

# Wrong usage.
expect 2 tokstream-send --listen :0
says 'give --key FILE'
expect 2 tokstream-send --listen 4711
expect 2 tokstream-send --scheme udp
expect 2 tokstream-recv 192.0.2.1:4711
says 'give --key FILE'
expect 2 tokstream-recv 127.0.0.1:99999
printf short >short
expect 2 tokstream-recv --key short
says '16 or more'
expect 4 tokstream-recv --key absent
status=0
echo '{"txet": "x"}' | tokstream-send --jsonl --listen 127.0.0.1:0 -q 2>err || status=$?
judge $status 3 '-: line 1: neither "text" nor "end"' tokstream-send
