#!/usr/bin/env bash
# linkemu: statuses, addresses, that nothing else can be reached, delay, loss and rate as they were
# asked for, and streams of tokens through it.
source "$(dirname "$0")/lib.sh"
status=0
linkemu -- true 2>err || status=$?
[ $status != 5 ] || skip "no link here: $(<err)"
[ $status = 0 ] || fail "true: $status: $(<err)"

# The command's status is its own.
status=0
linkemu -- sh -c 'exit 7' || status=$?
[ $status = 7 ] || fail "exit 7: $status"
status=0
linkemu -- sh -c 'kill -9 $$' || status=$?
[ $status = 137 ] || fail "a signal: $status"
expect 2 linkemu -- no-such-command
says 'no-such-command: No such file'
expect 2 linkemu
expect 2 linkemu --loss iid:2 -- true
expect 2 linkemu --mtu 100 -- true
says '--mtu 100'
[ "$(echo in | linkemu -- cat)" = in ] || fail 'standard input'

# The far program: ended when it lasts, and said when it fails.
began=$SECONDS
linkemu --far 'exec sleep 60' -- true || fail 'a far program that lasts'
[ $((SECONDS - began)) -lt 20 ] || fail 'the far program was not ended'
linkemu --far 'exit 9' -- sleep 0.2 2>err || fail 'a far program that fails'
says 'linkemu: --far ended with status 9'
# SIGTERM goes on to the command, which may do something about it.
# shellcheck disable=SC2016
linkemu -- bash -c 'trap "exit 5" TERM; touch there; while :; do sleep 0.05; done' & pid=$!
for _ in $(seq 500); do [ -e there ] && break; sleep 0.02; done
kill $pid
status=0
wait $pid || status=$?
[ $status = 5 ] || fail "SIGTERM: $status"

cat >host.py <<'PYTHON'
"""echo PORT: sends every datagram back.  ask PORT N: N datagrams to it, prints round trips in ms.
pour PORT BYTES: serves them by TCP.  drink PORT: prints the seconds that took."""
import os, socket, sys, time
what, port = sys.argv[1], int(sys.argv[2])
near, far = os.environ["LINKEMU_NEAR"], os.environ["LINKEMU_FAR"]
if what == "echo":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((far, port))
    while True:
        data, peer = s.recvfrom(2000)
        s.sendto(data, peer)
if what == "ask":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((near, 0))
    s.settimeout(0.5)
    for i in range(100):  # until the other is there
        s.sendto(b"first", (far, port))
        try:
            s.recv(2000)
            break
        except (TimeoutError, ConnectionError):
            time.sleep(0.02)
    s.settimeout(0.1)
    for i in range(int(sys.argv[3])):
        sent = time.monotonic()
        s.sendto(b"%d" % i, (far, port))
        try:
            while s.recv(2000) != b"%d" % i:
                pass
            print(1e3 * (time.monotonic() - sent))
        except TimeoutError:
            print("lost")
if what == "pour":
    s = socket.create_server((far, port))
    peer, _ = s.accept()
    peer.sendall(bytes(int(sys.argv[3])))
if what == "drink":
    for i in range(100):
        try:
            s = socket.create_connection((far, port), timeout=5)
            break
        except ConnectionError:
            time.sleep(0.02)
    began = time.monotonic()
    while s.recv(65536):
        pass
    print(time.monotonic() - began)
PYTHON
mine() { python3 -c "import sys; x = [l.strip() for l in open(sys.argv[1])]; t = sorted(float(l) for l in x if l != 'lost'); print(1 if $2 else 0)" "$1"; }

# 15 ms each way: none sooner, and the median soon after, however busy the machine.
linkemu --delay 15 --far 'python3 host.py echo 5000' -- python3 host.py ask 5000 20 >times.txt
[ "$(mine times.txt 'len(t) == 20 and t[0] >= 30 and t[10] < 60')" = 1 ] || fail "round trips: $(<times.txt)"
# A fifth is lost each way, of 300: 108 of them on average, ±25 is over three deviations.
linkemu --delay 1 --loss iid:0.2 --stats --far 'python3 host.py echo 5000' -- \
  python3 host.py ask 5000 300 >times.txt 2>err
[ "$(mine times.txt '80 < x.count("lost") < 136')" = 1 ] || fail "lost: $(grep -c lost times.txt)"
python3 -c 'import json, sys
c = json.loads(open("err").read().splitlines()[-1])
lost = open("times.txt").read().count("lost")
sys.exit(not (300 <= c["up"]["packets"] <= 400 and abs(c["up"]["lost"] + c["down"]["lost"] - lost) < 20))' ||
  fail "counts: $(<err)"
# No loss of what comes, all of what goes.
linkemu --delay 1 --up-loss iid:1 --far 'python3 host.py echo 5000' -- \
  timeout 2 python3 host.py ask 5000 1 >times.txt || true
[ ! -s times.txt ] || fail "an answer: $(<times.txt)"
# 2 Mbit/s: 200,000 bytes take 0.8 s and headers.
echo '0 2' >rate
linkemu --delay 5 --down rate --far 'python3 host.py pour 5000 200000' -- \
  python3 host.py drink 5000 >times.txt
[ "$(mine times.txt '0.8 < t[0] < 3')" = 1 ] || fail "200 kB at 2 Mbit/s: $(<times.txt) s"

# Nothing else is there: not this machine's loopback, no other network.
python3 -c 'import socket, time
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
time.sleep(30)' >outer & outer=$!
for _ in $(seq 500); do [ -s outer ] && break; sleep 0.02; done
linkemu -- python3 -c 'import socket, sys
for address in (("127.0.0.1", int(sys.argv[1])), ("192.0.2.1", 80)):
    try:
        socket.create_connection(address, timeout=2)
        sys.exit("reached " + address[0])
    except OSError:
        pass' "$(<outer)" || fail 'the link is not alone'
kill $outer

# Streams of tokens, by IPv4 and IPv6, through outages and out of order.
head -c 60000 /dev/urandom | base64 >text
head -c 32 /dev/urandom >key
linkemu --delay 20 --loss bursts:100,0.1 --reorder 0.1 \
  --far 'tokstream-send -q -l 10.77.0.2:4711 -k key text' -- tokstream-recv 10.77.0.2:4711 -k key >got
cmp text got
linkemu --delay 20 --loss ge:0.068,0.852,0.04,0.5 --delay-jitter 5 \
  --far 'tokstream-send -q -l [fd77::2]:4711 -k key text' -- tokstream-recv '[fd77::2]:4711' -k key >got
cmp text got
