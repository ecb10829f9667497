#!/usr/bin/env python3
"""check_refdecode.py KV_DUMP SOURCE: the independent decoder and the library see the same.

All golden files decode to the same META, ids and tiles; planes_X.kv holds the elements of
channels_X.kv and lossy_X_values.kv those of lossy_X.kv; all bad ones are refused by both with exit
status 3 and one line; the hexdump in man/kv.5 is that of golden/v1/tiny.kv.
"""

import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys

KV_DUMP, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
failures = []


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def refdecode(path):
    return run(sys.executable, SOURCE / "tests/refdecode.py", path)


def library(path, *options):
    done = run(KV_DUMP, *options, path)
    if done.returncode != 0:
        return done, None
    members = json.loads(done.stdout)
    for member in members:
        for tile in member["tiles"]:
            tile["sha256"] = hashlib.sha256(bytes.fromhex(tile.pop("data"))).hexdigest()
    return done, members


def check(condition, what):
    if not condition:
        failures.append(what)


elements = {}  # hashes of the tiles' elements, where they could be decoded
good = sorted((SOURCE / "tests/golden/v1").glob("*.kv"))
for path in good:
    reference = refdecode(path)
    check(reference.returncode == 0, f"{path.name}: refdecode: {reference.stderr}")
    if reference.returncode != 0:
        continue
    expected = json.loads(reference.stdout)
    for member in expected:
        refined = [tile["quality"] > 0 for tile in member["tiles"][1:]] + [False]
        for tile, is_refined in zip(member["tiles"], refined):
            of_tile = tile.pop("elements_sha256", tile["sha256"] if tile["codec"] == 0 else None)
            if not is_refined:
                elements.setdefault(path.stem, []).append(of_tile)
    done, members = library(path)
    check(members == expected, f"{path.name}: decoders differ; {done.stderr}")
    if path.name != "no_index.kv":
        done, members = library(path, "--index")
        for member in expected:
            del member["member_hash"]
        check(members == expected, f"{path.name}: differs through the index; {done.stderr}")

for name in [name for name in elements if name.startswith("planes_")]:
    if not shutil.which("zstd"):
        print("planes were not decoded: there is no program zstd")
        break
    check(elements[name] == elements[name.replace("planes", "channels")], f"{name}: elements")

for name in [name for name in elements if f"{name}_values" in elements]:
    if ("ecsq" in name or "clp" in name) and not shutil.which("zstd"):
        print(f"{name} was not decoded: there is no program zstd")
        continue
    check(elements[name] == elements[f"{name}_values"] and None not in elements[name],
          f"{name}: elements")

bad = sorted((SOURCE / "tests/golden-bad").glob("*.kv"))
for path in bad:
    for done in (refdecode(path), library(path)[0]):
        check(done.returncode == 3, f"{path.name}: {done.args[0]}: status {done.returncode}")
        check(done.stderr.count("\n") == 1 and not done.stdout, f"{path.name}: not one line")

tiny = (SOURCE / "tests/golden/v1/tiny.kv").read_bytes()
page = (SOURCE / "man/kv.5").read_text()
lines = re.findall(r"^([0-9a-f]{8})((?:  ?[0-9a-f]{2}){16})$", page, re.M)
for offset, digits in lines:
    at = int(offset, 16)
    check(bytes.fromhex(digits) == tiny[at:at + 16], f"kv.5: hexdump at {offset}")
size = int.from_bytes(tiny[24:32], "little")
text = re.search(r'^\{"chunks".*?\n\.Ed', page, re.M | re.S)
check(text and text[0][:-4].replace("\n", "").encode() == tiny[48:48 + size], "kv.5: META")

check(len(good) >= 10 and len(bad) >= 50 and len(lines) >= 30, "files are missing")
print("\n".join(failures) or f"{len(good)} good, {len(bad)} bad, {len(lines)} lines of hexdump: ok")
sys.exit(bool(failures))
