#!/usr/bin/env python3
"""calibration_texts.py PIECES: texts of many kinds that anybody may have, as JSON Lines, one of about
2,048 tokens a line: passages as they stand in Debian's fortunes, debian-faq and three dictionaries,
and of Python's own library. Kinds take turns, so that the first few lines are of all."""
import glob
import gzip
import json
import re
import sys
import sysconfig

CHARACTERS = 9000
DICTIONARIES = "/usr/share/dictd/{}.dict.dz"
FORTUNES = ("people", "literature", "science", "songs-poems", "wisdom", "law", "education", "computers")
MODULES = ("argparse", "statistics", "textwrap")


def read(path):
    opener = gzip.open if path.endswith((".gz", ".dz")) else open
    with opener(path, "rb") as file:
        return file.read().decode("utf-8", "replace")


def prose(text):
    """Paragraphs of one line each."""
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n|\n%\n", text))
    return "\n\n".join(part for part in paragraphs if len(part) > 60)


def kinds():
    """Of each kind its texts and how many of 12 pieces it is."""
    library = sysconfig.get_path("stdlib")
    yield "fortunes", [prose(read(f"/usr/share/games/fortunes/{name}")) for name in FORTUNES], 4
    yield "faq", [prose(read(glob.glob("/usr/share/doc/debian/FAQ/debian-faq*.txt.gz")[0]))], 2
    for name, share in (("jargon", 2), ("foldoc", 2), ("devil", 1)):
        yield name, [prose(read(DICTIONARIES.format(name)))], share
    yield "python", [read(f"{library}/{name}.py") for name in MODULES], 1


def main():
    count = int(sys.argv[1])
    turns = []
    for name, texts, share in kinds():
        pieces = max(1, round(count * share / 12))
        text = "\n\n".join(texts)
        if len(text) < pieces * CHARACTERS:
            sys.exit(f"calibration_texts.py: {name} is too short")
        stride = len(text) // pieces
        for i in range(pieces):
            # Not from the start, where licences and contents stand.
            begin = i * stride + min(stride // 3, stride - CHARACTERS)
            turns.append(((i + 0.5) / pieces, text[begin : begin + CHARACTERS]))
    turns.sort(key=lambda turn: turn[0])
    for number, (_, text) in enumerate(turns):
        print(json.dumps({"id": number, "text": text}))


main()
