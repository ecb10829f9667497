"""Tables of BENCHMARKS.md from what tokstream-sim --json wrote: tokstream.py CHANNEL.json..."""

import json
import sys
from pathlib import Path


def number(entry, scale=1.0, digits=2):
    half = "" if entry["half"] is None else f" ±{scale * entry['half']:.{digits}f}"
    return f"{scale * entry['value']:.{digits}f}{half}"


def row(cells):
    print("| " + " | ".join(cells) + " |")


def table(title, channels, cell):
    names = [scheme["scheme"] for scheme in channels[0][1]["schemes"]]
    print(f"\n{title}\n")
    row(["channel", *names])
    row(["---"] * (1 + len(names)))
    for name, channel in channels:
        row([name, *(cell(scheme) for scheme in channel["schemes"])])


def main():
    channels = [(Path(name).stem, json.loads(Path(name).read_text())) for name in sys.argv[1:]]
    first = channels[0][1]
    print(f"{first['streams']} streams a seed, {first['seeds']} seeds from {first['first_seed']}; "
          f"± is half of the 95 % interval over seeds")
    table("Stalled share, %, gaps over 200 ms:", channels,
          lambda s: number(s["stall_ratio"][0], 100))
    table("99th percentile of gaps, ms:", channels, lambda s: number(s["gap_ms"]["p99"], 1, 0))
    table("Bytes on the wire, of one copy:", channels, lambda s: number(s["bytes_per_copy"], 1, 3))

    print("\nStalls fewer than, %, and the paper's 71.0 (retransmission) and 31.6 (duplication):\n")
    ours = ["chatterbox", "chatterbox+timer:0.15", "chatterbox+timer"]
    row(["channel", *(f"{name} than {other}" for name in ours for other in ("tcp", "duplicate:2"))])
    row(["---"] * (1 + 2 * len(ours)))
    for name, channel in channels:
        schemes = {scheme["scheme"]: scheme for scheme in channel["schemes"]}
        cells = [schemes[our]["stalls_less_than"][other]
                 for our in ours for other in ("tcp", "duplicate:2")]
        row([name, *("" if c["value"] is None else number(c, 100, 1) for c in cells)])

    print("\nBy threshold, chatterbox+timer fewer than tcp, %:\n")
    row(["channel", *(f"{t['threshold_ms']:g} ms" for t in first["schemes"][0]["stall_ratio"])])
    row(["---"] * (1 + len(first["schemes"][0]["stall_ratio"])))
    for name, channel in channels:
        schemes = {scheme["scheme"]: scheme["stall_ratio"] for scheme in channel["schemes"]}
        row([name, *("" if theirs["value"] == 0 else
                     f"{100 * (1 - mine['value'] / theirs['value']):.1f}"
                     for mine, theirs in zip(schemes["chatterbox+timer"], schemes["tcp"]))])


main()
