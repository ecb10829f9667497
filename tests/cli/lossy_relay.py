"""A UDP relay that does to packets what bad networks do: lossy_relay.py TO_PORT SEED WAY=VALUE...

Prints its own port. Ways, each a probability for each packet: loss, twice, late (by 20 to 80 ms, so
that others overtake it), flip (a bit), cut (the end), replay (an old packet once more). Times in
seconds since the first packet: acks_lost=FROM:TO (nothing back to the sender), roam=T (from then on
towards the sender from another port), black=FROM:TO.
"""

import heapq
import random
import select
import socket
import sys
import time

to, seed = int(sys.argv[1]), int(sys.argv[2])
ways = dict(word.split("=") for word in sys.argv[3:])
chance = {name: float(ways.get(name, 0))
          for name in ("loss", "twice", "late", "flip", "cut", "replay")}
span = {name: [float(t) for t in ways.get(name, "-1:-1").split(":")] for name in ("acks_lost", "black")}
roam_at = float(ways.get("roam", "inf"))
rng = random.Random(seed)

front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
front.bind(("127.0.0.1", 0))
backs = {}  # by the receiver's address, and whether it has roamed
owners = {}
print(front.getsockname()[1], flush=True)
began, queue, count, old = None, [], 0, []


def back_of(client, roamed):
    if (client, roamed) not in backs:
        back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        back.connect(("127.0.0.1", to))
        backs[client, roamed] = back
        owners[back] = client
    return backs[client, roamed]


def launch(data, send, now):
    global count
    if rng.random() < chance["loss"]:
        return
    for _ in range(2 if rng.random() < chance["twice"] else 1):
        packet = bytearray(data)
        if rng.random() < chance["flip"]:
            packet[rng.randrange(len(packet))] ^= 1 << rng.randrange(8)
        if rng.random() < chance["cut"]:
            del packet[rng.randrange(len(packet)):]
        late = rng.uniform(0.02, 0.08) if rng.random() < chance["late"] else 0
        count += 1
        heapq.heappush(queue, (now + 0.005 + late, count, bytes(packet), send))


while True:
    timeout = max(0, queue[0][0] - time.monotonic()) if queue else None
    ready, _, _ = select.select([front, *owners], [], [], timeout)
    now = time.monotonic()
    for source in ready:
        try:
            data, address = source.recvfrom(4096)
        except ConnectionError:
            continue
        began = began or now
        since = now - began
        if span["black"][0] <= since < span["black"][1]:
            continue
        if source is front:
            if span["acks_lost"][0] <= since < span["acks_lost"][1]:
                continue
            send = back_of(address, since >= roam_at).send
        else:
            # What comes to the old address after roaming is lost.
            client = owners[source]
            if since >= roam_at and backs.get((client, False)) is source:
                continue
            send = (lambda target: lambda packet: front.sendto(packet, target))(client)
        launch(data, send, now)
        old.append((data, send))
        if rng.random() < chance["replay"]:
            launch(*old[rng.randrange(len(old))], now)
        del old[:-500]
    while queue and queue[0][0] <= time.monotonic():
        _, _, packet, send = heapq.heappop(queue)
        try:
            send(packet)
        except ConnectionError:
            pass
