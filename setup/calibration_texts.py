#!/usr/bin/env python3
"""calibration_texts.py WINDOWS: texts that anybody may have, as JSON Lines, one of about 2,048 tokens
a line: passages of the packages fortunes, dict-jargon and dict-devil in a random, fixed order."""
import glob
import gzip
import json
import random
import re
import sys

WINDOW_CHARACTERS = 9000


def read(path):
    opener = gzip.open if path.endswith((".gz", ".dz")) else open
    with opener(path, "rb") as file:
        return file.read().decode("utf-8", "replace")


def unwrapped(text):
    return " ".join(text.split())


def passages(text, separator):
    for passage in re.split(separator, text):
        passage = unwrapped(passage)
        if 150 < len(passage) < 1200:
            yield passage


def main():
    source = random.Random(1)
    kinds = {"fortunes": [], "jargon": [], "devil": []}
    for path in sorted(glob.glob("/usr/share/games/fortunes/*")):
        if not path.endswith((".dat", ".u8")):
            kinds["fortunes"] += passages(read(path), r"\n%\n")
    for name in ("jargon", "devil"):
        for path in sorted(glob.glob(f"/usr/share/dictd/{name}.dict*")):
            kinds[name] += passages(read(path), r"\n\s*\n")
    for name, texts in kinds.items():
        if len(texts) < 100:
            sys.exit(f"calibration_texts.py: only {len(texts)} passages of {name}")
        texts.sort()
        source.shuffle(texts)
    weights = ["fortunes"] * 3 + ["jargon"] * 2 + ["devil"]
    for window in range(int(sys.argv[1])):
        text = ""
        while len(text) < WINDOW_CHARACTERS:
            of = kinds[source.choice(weights)]
            if not of:
                sys.exit("calibration_texts.py: no texts left")
            text += of.pop() + "\n\n"
        print(json.dumps({"id": window, "text": text}))


main()
