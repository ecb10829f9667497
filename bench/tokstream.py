"""The table of BENCHMARKS.md from what tokstream-sim --json wrote: tokstream.py CHANNEL.json...

Exit status 1 when a goal is missed, which is said."""

import json
import sys
from pathlib import Path

OURS = ["chatterbox", "chatterbox+timer:0.15", "chatterbox+timer"]
OTHERS = ["tcp", "rack", "duplicate:2"]
# Less than tcp, less than duplicate:2, bytes of one copy: of chatterbox+timer, on these channels.
GOAL_CHANNELS, GOALS = ["bursts-13", "starlink-100ms"], (0.71, 0.316, 1.15)


def number(entry, scale=1.0, digits=2):
    half = "" if entry["half"] is None else f" ±{scale * entry['half']:.{digits}f}"
    return f"{scale * entry['value']:.{digits}f}{half}"


def row(cells):
    print("| " + " | ".join(cells) + " |")


def main():
    channels = [(Path(name).stem, json.loads(Path(name).read_text())) for name in sys.argv[1:]]
    first = channels[0][1]
    names = [scheme["scheme"] for scheme in first["schemes"]]
    print(f"{first['streams']} streams a seed, {first['seeds']} seeds from {first['first_seed']}; "
          f"± is half of the 95 % interval over seeds.\n\nStalled share (gaps over 200 ms), %; "
          f"99th percentile of gaps, ms; bytes on the wire of one copy:\n")
    row(["channel", *names])
    print("|---" * (1 + len(names)) + "|")
    for name, channel in channels:
        row([name, *(f"{number(s['stall_ratio'][0], 100)}; {s['gap_ms']['p99']['value']:.0f}; "
                     f"{s['bytes_per_copy']['value']:.2f}" for s in channel["schemes"])])

    print("\nStalls fewer, %; the paper has 71.0 than retransmission and 31.6 than duplication:\n")
    pairs = [(our, other) for our in OURS for other in OTHERS]
    row(["channel", *(f"{our} than {other}" for our, other in pairs)])
    print("|---" * (1 + len(pairs)) + "|")
    for name, channel in channels:
        schemes = {scheme["scheme"]: scheme for scheme in channel["schemes"]}
        cells = [schemes[our]["stalls_less_than"][other] for our, other in pairs]
        row([name, *("" if c["value"] is None else number(c, 100, 1) for c in cells)])

    thresholds = [f"{t['threshold_ms']:g} ms" for t in first["schemes"][0]["stall_ratio"]]
    print("\nBy threshold, chatterbox+timer fewer than tcp, %:\n")
    row(["channel", *thresholds])
    print("|---" * (1 + len(thresholds)) + "|")
    for name, channel in channels:
        schemes = {scheme["scheme"]: scheme["stall_ratio"] for scheme in channel["schemes"]}
        row([name, *("" if theirs["value"] == 0 else
                     f"{100 * (1 - mine['value'] / theirs['value']):.1f}"
                     for mine, theirs in zip(schemes["chatterbox+timer"], schemes["tcp"]))])

    print()
    missed = False
    for name, channel in channels:
        if name not in GOAL_CHANNELS:
            continue
        ours = {scheme["scheme"]: scheme for scheme in channel["schemes"]}["chatterbox+timer"]
        less = ours["stalls_less_than"]
        found = (less["tcp"]["value"], less["duplicate:2"]["value"],
                 ours["bytes_per_copy"]["value"])
        good = found[0] >= GOALS[0], found[1] >= GOALS[1], found[2] <= GOALS[2]
        missed = missed or not all(good)
        print(f"{name}: " + ", ".join(
            f"{value:.3f} (goal {goal}{'' if fine else ', missed'})"
            for value, goal, fine in zip(found, GOALS, good)))
    return missed


sys.exit(main())
