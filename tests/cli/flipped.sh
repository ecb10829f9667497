#!/usr/bin/env bash
# kvdecode of streams with a byte flipped, and under profiles with one: status 3, one line, no file.
# The files are the golden ones of codecs that need a profile; every few bytes, since the unit tests
# flip each.
# shellcheck source=tests/cli/lib.sh
source "$(dirname "$0")/lib.sh"

mkdir profiles streams
cp "$tests/golden/clp.kvp" "$tests/golden/lossy.kvprofile" profiles
cp "$tests"/golden/v1/lossy_{clp-one,clp-fp8,cachegen}.kv streams
export HOME=$work XDG_DATA_HOME='' KVTOOLS_PROFILES=$work/profiles
for stream in streams/*; do expect 0 kvdecode "$stream" -o sound.kv -f; done
rm sound.kv

python3 - <<'PYTHON'
import pathlib
import subprocess
import sys

EVERY = 41


def attempt(path, command):
    content = path.read_bytes()
    for at in range(0, len(content), EVERY):
        changed = bytearray(content)
        changed[at] ^= 0xFF
        path.write_bytes(changed)
        done = subprocess.run(command, capture_output=True, text=True)
        where = f"{path}, byte {at}"
        if done.returncode != 3 or done.stdout:
            sys.exit(f"FAILED: {where}: status {done.returncode}: {done.stderr}")
        if done.stderr.count("\n") != 1 or not done.stderr.startswith("kvdecode: "):
            sys.exit(f"FAILED: {where}: not one line: {done.stderr}")
        if pathlib.Path("lost.kv").exists():
            sys.exit(f"FAILED: {where}: something was written")
    path.write_bytes(content)
    return len(range(0, len(content), EVERY))


count = 0
for stream in sorted(pathlib.Path("streams").iterdir()):
    count += attempt(stream, ["kvdecode", stream, "-o", "lost.kv"])
for profile, stream in (("clp.kvp", "lossy_clp-one.kv"), ("lossy.kvprofile", "lossy_cachegen.kv")):
    count += attempt(pathlib.Path("profiles") / profile,
                     ["kvdecode", f"streams/{stream}", "-o", "lost.kv"])
print(f"{count} damaged files refused")
PYTHON
only profiles streams out err
