"""The programs at both ends of linkemu in bench/tokstream_real.py and examples/streaming.sh.

speak TRACE          the tokens' text to standard output at their times
clock                copies nothing: when how many bytes of standard input were there, as JSON;
                     from the link's beginning
serve TRACE          a chat service: the tokens as Server-Sent Events over TCP, at their times
fetch                asks for them; when how many bytes of text were there, as JSON
row NAME TRACE FILE  what clock or fetch said, as a row: when the first token was there, from when it
                     was made; stalled time and gaps since then; when the last was there

TRACE is what kvgen --trace writes; its time 0 is when the link's time began (LINKEMU_BEGAN), or as
much later as it takes for the first token to be at 2 s. Both ends have one clock, in nanoseconds.
"""

import json
import os
import socket
import sys
import time

PORT = 4712


def tokens(path):
    lines = [json.loads(line) for line in open(path, encoding="utf-8")]
    later = max(0, 2_000_000_000 - lines[0]["t_ns"])
    return [(line["t_ns"] + later, line["text"]) for line in lines]


BEGAN = int(os.environ.get("LINKEMU_BEGAN", 0))


def at_their_times(path):
    for t_ns, text in tokens(path):
        pause = BEGAN + t_ns - time.monotonic_ns()
        if pause > 0:
            time.sleep(pause / 1e9)
        yield text


def speak(path):
    for text in at_their_times(path):
        os.write(1, text.encode())


def clock():
    arrivals, total = [], 0
    while data := os.read(0, 65536):
        total += len(data)
        arrivals.append((time.monotonic_ns() - BEGAN, total))
    print(json.dumps(arrivals))


def event(text):
    chunk = {"id": "chatcmpl-9f2c61d0", "object": "chat.completion.chunk", "created": 1732500000,
             "model": "smollm2", "choices": [{"index": 0, "delta": {"content": text},
                                              "finish_reason": None}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def serve(path):
    listener = socket.create_server((os.environ["LINKEMU_FAR"], PORT))
    peer, _ = listener.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:  # what most machines have; others' default may be another
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    except OSError:
        print("no cubic here", file=sys.stderr)
    request = b""
    while b"\r\n\r\n" not in request:
        request += peer.recv(4096)
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                 b"Transfer-Encoding: chunked\r\n\r\n")
    for text in at_their_times(path):
        data = event(text)
        peer.sendall(b"%x\r\n%s\r\n" % (len(data), data))
    data = b"data: [DONE]\n\n"
    peer.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))
    peer.shutdown(socket.SHUT_WR)
    peer.settimeout(120)
    peer.recv(1)  # until the other side has all and closes


def fetch():
    for _ in range(100):
        try:
            peer = socket.create_connection((os.environ["LINKEMU_FAR"], PORT), timeout=120)
            break
        except ConnectionRefusedError:
            time.sleep(0.02)
    peer.sendall(b"GET /answer HTTP/1.1\r\nHost: far\r\nAccept: text/event-stream\r\n\r\n")
    arrivals, total, rest = [], 0, b""
    while data := peer.recv(65536):
        now = time.monotonic_ns()
        # Chunks and events begin at the same byte: lines of neither sort are looked at.
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                chunk = json.loads(line[6:])
                total += len(chunk["choices"][0]["delta"]["content"].encode())
                arrivals.append((now - BEGAN, total))
    print(json.dumps(arrivals))


def row(name, path, file):
    arrivals, shown, end, i = json.load(open(file, encoding="utf-8")), [], 0, 0
    said = tokens(path)
    for _, text in said:
        end += len(text.encode())
        while arrivals[i][1] < end:
            i += 1
        shown.append(arrivals[i][0] / 1e6)
    gaps = sorted(b - a for a, b in zip(shown, shown[1:]))
    made = said[0][0] / 1e6
    stalled = sum(g for g in gaps if g > 200) / (shown[-1] - shown[0])
    print(f"{name:24} {(shown[0] - made) / 1e3:8.1f} {100 * stalled:10.1f} "
          f"{gaps[len(gaps) * 99 // 100]:8.0f} {gaps[-1]:8.0f} {(shown[-1] - made) / 1e3:7.1f}")


{"row": row, "speak": speak, "clock": clock, "serve": serve, "fetch": fetch}[sys.argv[1]](*sys.argv[2:])
