"""Token streams through linkemu, for real, beside the simulator on the same paths.

tokstream_real.py BUILD [--streams N] [--tokens N] [CHANNEL...]: as many streams at once, each over a
link of its own: by kernel TCP as Server-Sent Events (cubic, TCP_NODELAY; Linux's RACK-TLP), and by
tokstream-send and tokstream-recv, sealed. The simulator gets the same token times and the same
outages. Exit status 1 when Chatterbox or TCP (its scheme rack) are more than 10 % apart from it in
outages. Stalls are gaps over 200 ms, and over 300, for two intervals of 50 ms and a round trip are
200 ms; means over streams with 95 % intervals, and how much more than the simulator's that is.
"""

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHANNELS = {"iid-5": "iid:0.05", "bursts-100ms": "bursts:100,0.05",
            "bursts-500ms": "bursts:500,0.05", "bursts-13": "bursts:500,0.13,0.8"}
# The simulator's name, and what runs for it.
THRESHOLDS = [200, 300]
WAYS = {"rack": "sse", "chatterbox": "chatterbox", "chatterbox+timer": "chatterbox+timer"}


def student(n):  # 97.5 % quantile; n - 1 degrees of freedom
    z, x = 1.959964, n - 1
    return z + (z**3 + z) / (4 * x) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * x * x)


def mean_half(values):
    n, mean = len(values), sum(values) / len(values)
    return mean, student(n) * math.sqrt(sum((v - mean)**2 for v in values) / (n - 1) / n)


def make_trace(path, tokens):
    rng, t_ns = random.Random(1), 2_000_000_000  # the ends have met by then
    words = [" the", " of", " naïve", " a", ".", " stream", " 漢字", " and"]
    with open(path, "w", encoding="utf-8") as out:
        for i in range(tokens):
            t_ns += int(50e6 * rng.uniform(0.9, 1.1))
            out.write(json.dumps({"t_ns": t_ns, "id": i, "text": rng.choice(words)}) + "\n")


def stalled(arrivals, ends, threshold_ms):
    """Share of time in longer gaps, from when bytes were there and where tokens end."""
    shown, i = [], 0
    for end in ends:
        while arrivals[i][1] < end:
            i += 1
        shown.append(arrivals[i][0])
    gaps = [b - a for a, b in zip(shown, shown[1:])]
    return sum(gap for gap in gaps if gap > threshold_ms * 1_000_000) / (shown[-1] - shown[0])


def start(build, way, loss, seed, work, trace, text):
    tools, peer = build / "tools", f"{sys.executable} {HERE / 'tokstream_peer.py'}"
    link = [tools / "linkemu", "--loss", loss, "--seed", str(seed), "--stats", "--far"]
    if way == "sse":
        link += [f"{peer} serve {trace}", "--", *peer.split(), "fetch"]
    else:
        link += [f"{peer} speak {trace} | {tools}/tokstream-send -q -l 10.77.0.2:4711 -s {way} "
                 f"-k {work}/key", "--", "bash", "-c",
                 f"set -o pipefail; {tools}/tokstream-recv 10.77.0.2:4711 -k {work}/key | "
                 f"tee {work}/{seed}.text | {peer} clock; cmp {text} {work}/{seed}.text"]
    return subprocess.Popen(link, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def measure(build, way, loss, o, work, trace):
    said = [(line["text"]).encode() for line in map(json.loads, open(trace, encoding="utf-8"))]
    ends = [sum(map(len, said[:i + 1])) for i in range(len(said))]
    Path(work, "text").write_bytes(b"".join(said))
    running = [start(build, way, loss, seed, work, trace, f"{work}/text")
               for seed in range(1, o.streams + 1)]
    ratios, packets, late, rate = [[] for _ in THRESHOLDS], 0, 0, 0
    for process in running:
        out, err = process.communicate()
        counts = json.loads(err.splitlines()[-1]) if err else None
        if process.returncode != 0:
            sys.exit(f"{way} over {loss}: status {process.returncode}: {err}")
        for into, threshold in zip(ratios, THRESHOLDS):
            into.append(stalled(json.loads(out), ends, threshold))
        packets += counts["down"]["bytes"]
        rate += counts["down"]["packets"]
        late = max(late, counts["down"]["late_ms"], counts["up"]["late_ms"])
    tokens = o.streams * len(said)
    return ratios, packets / tokens, rate / tokens, late


def simulate(build, scheme, loss, o, trace):
    out = subprocess.run(
        [build / "tools" / "tokstream-sim", "--json", "--loss", loss, "-t", trace, "-n",
         str(o.tokens), "--payload", "text", "-s", scheme, "--streams", "1", "--seeds",
         str(o.streams), "--threshold", ",".join(map(str, THRESHOLDS))], stdout=subprocess.PIPE, text=True, check=True)
    return [(r["value"], r["half"]) for r in json.loads(out.stdout)["schemes"][0]["stall_ratio"]]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=Path)
    parser.add_argument("channels", nargs="*", default=list(CHANNELS))
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--ways", default=",".join(WAYS))
    o = parser.parse_args()
    build = o.build.resolve()
    missed = False
    with tempfile.TemporaryDirectory() as work:
        trace = Path(work, "trace.jsonl")
        make_trace(trace, o.tokens)
        Path(work, "key").write_bytes(random.randbytes(32))
        print("| channel | real, simulated | over 200 ms, % | simulator | more | over 300 ms, % | "
              "simulator | more | bytes a token | packets a token | late at most, ms |")
        print("|---" * 11 + "|")
        for name in o.channels:
            for scheme in o.ways.split(","):
                ratios, size, packets, late = measure(build, WAYS[scheme], CHANNELS[name], o, work,
                                                      trace)
                cells = []
                simulated = simulate(build, scheme, CHANNELS[name], o, trace)
                for threshold, found, (sim, sim_half) in zip(THRESHOLDS, ratios, simulated):
                    mean, half = mean_half(found)
                    cells += [f"{100 * mean:.2f} ±{100 * half:.2f}",
                              f"{100 * sim:.2f} ±{100 * sim_half:.2f}",
                              f"{100 * (mean / sim - 1):+.1f} %" if sim > 0 else ""]
                    if threshold == THRESHOLDS[0] and name.startswith("bursts") and sim > 0:
                        missed = missed or abs(mean / sim - 1) > 0.1
                print(f"| {name} | {WAYS[scheme]}, {scheme} | {' | '.join(cells)} | {size:.0f} | "
                      f"{packets:.2f} | {late:.0f} |", flush=True)
    return missed


sys.exit(main())
