#!/usr/bin/env python3
"""A second, slow decoder of kv(5), written from the man page alone.

refdecode.py FILE prints JSON: a list of members, each with its META, token ids, importance (bytes
of IMPT), and tiles with the SHA-256 of their data; of tiles in the codec "planes" also that of the
elements, if the program zstd is there, and of those in lossy codecs (refdecode_lossy.py,
refdecode_ecsq.py, refdecode_clp.py). Exit status 3 and one line on stderr: the stream is refused.
"""

import hashlib
import json
import math
import pathlib
import re
import shutil
import struct
import subprocess
import sys

import refdecode_clp
import refdecode_ecsq
import refdecode_lossy
from refdecode_xxh3 import u32, xxh3


class Refused(Exception):
    pass


# --- META ---------------------------------------------------------------------------------------

DTYPES = {"f32": 4, "f16": 2, "bf16": 2, "fp8_e4m3": 1, "fp8_e5m2": 1, "int8": 1}
DTYPE_NUMBERS = dict(enumerate(DTYPES, 1))
MAX_INTEGER = (1 << 53) - 1
MAX_TOKENS = 1 << 26
MAX_ROW = 1 << 24
MAX_LAYERS = 1 << 12


def require(condition, cause):
    if not condition:
        raise Refused(cause)


def parse_json(text):
    def pairs(items):
        require(len(dict(items)) == len(items), "a key stands twice")
        return dict(items)

    def no_constant(name):
        raise Refused(f"{name} is not JSON")

    def binary64(digits):
        value = float(digits)
        require(math.isfinite(value), "a number is too large")
        return value

    def integer(digits):
        binary64(digits)
        return int(digits)

    def depth(value):
        if not isinstance(value, (dict, list)):
            return 0
        return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)

    try:
        root = json.loads(text.decode("utf-8"), object_pairs_hook=pairs, parse_float=binary64,
                          parse_int=integer, parse_constant=no_constant)
        json.dumps(root, ensure_ascii=False).encode("utf-8")  # lone surrogates
        require(depth(root) <= 32, "META is nested too deeply")
    except (ValueError, RecursionError) as error:
        raise Refused(f"META is not JSON: {error}") from None
    return root


def get(obj, key, kind):
    require(isinstance(obj, dict), f"what should hold {key} is no object")
    require(key in obj, f"{key} is missing")
    value = obj[key]
    if kind is int:
        good = isinstance(value, int) and not isinstance(value, bool)
    elif kind is float:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
    else:
        good = isinstance(value, kind)
    require(good, f"{key} has the wrong type")
    return value


def get_int(obj, key, least, most):
    value = get(obj, key, int)
    require(least <= value <= most, f"{key} is out of range")
    return value


def check_layer(run):
    first = get_int(run, "first", 0, MAX_LAYERS - 1)
    get_int(run, "count", 1, MAX_LAYERS - first)
    heads, k, v, latent = (get_int(run, key, 0, MAX_ROW)
                           for key in ("kv_heads", "k_dim", "v_dim", "latent_dim"))
    get_int(run, "window", 0, MAX_INTEGER)
    if latent == 0:
        require(heads > 0 and k > 0 and v > 0, "a layer has no size")
        require(heads * max(k, v) <= MAX_ROW, "a row is too long")
    rope = get(run, "rope", dict)
    for key in ("attention_factor", "beta_fast", "beta_slow", "factor", "high_freq_factor",
                "low_freq_factor", "theta"):
        get(rope, key, float)
    get(rope, "truncate", bool)
    get_int(rope, "original_context", 0, MAX_INTEGER)
    require(rope["theta"] > 0 and rope["factor"] > 0, "theta or factor is not positive")
    require(get(rope, "scaling", str) in ("none", "linear", "llama3", "yarn"), "unknown scaling")


def check_meta(text):
    require(len(text) <= 1 << 20, "META is too large")
    meta = parse_json(text)
    token_count = get_int(meta, "token_count", 0, MAX_TOKENS)
    end = 0
    for chunk in get(meta, "chunks", list):
        get(chunk, "bos", bool)
        get(chunk, "id", str)
        first, count = get_int(chunk, "first", 0, MAX_TOKENS), get_int(chunk, "count", 0, MAX_TOKENS)
        require(first >= end and first + count <= token_count, "a chunk is out of place")
        end = first + count
    get(meta, "codec", str)
    get(meta, "document", dict)
    require(get(meta, "dtype", str) in DTYPES, "unknown dtype")
    get_int(meta, "first_position", 0, MAX_INTEGER)
    hidden = get_int(meta, "hidden", 0, MAX_ROW)
    before = -1
    for layer in get(meta, "hidden_layers", list):
        require(isinstance(layer, int) and not isinstance(layer, bool), "hidden_layers: no int")
        require(before < layer < MAX_LAYERS, "hidden_layers out of order")
        before = layer
    require(hidden > 0 or not meta["hidden_layers"], "hidden is 0")
    for step in get(meta, "history", list):
        get(step, "tool", str)
        get(step, "version", str)
        require(all(isinstance(a, str) for a in get(step, "arguments", list)), "arguments")
    end = 0
    for run in get(meta, "layers", list):
        check_layer(run)
        require(run["first"] >= end, "layers out of order")
        end = run["first"] + run["count"]
    require(meta["layers"] or meta["hidden_layers"], "no layers")
    model = get(meta, "model", dict)
    for key in ("adapter", "architecture", "base_fingerprint", "fingerprint", "name",
                "tokenizer_fingerprint"):
        value = get(model, key, str)
        if key.endswith("fingerprint"):
            require(re.fullmatch("([0-9a-f]{32})?", value) is not None, f"{key} is none")
    get_int(meta, "quality_layers", 1, 256)
    get(meta, "rope_applied", bool)
    return meta


def row_values(meta):
    """Values of a token in each tensor of the member: {(layer, kind): values}, in file order."""
    rows = {}
    for run in meta["layers"]:
        for layer in range(run["first"], run["first"] + run["count"]):
            if run["latent_dim"] > 0:
                rows[layer, "L"] = run["latent_dim"]
            else:
                rows[layer, "K"] = run["kv_heads"] * run["k_dim"]
                rows[layer, "V"] = run["kv_heads"] * run["v_dim"]
    for layer in meta["hidden_layers"]:
        rows[layer, "E"] = meta["hidden"]
    return dict(sorted(rows.items()))


# --- Tiles --------------------------------------------------------------------------------------

class Tiles:
    """The order of a member's tiles."""

    def __init__(self, meta):
        self.meta = meta
        self.rows = row_values(meta)
        count = meta["token_count"]
        self.expected = [(tensor, count) for tensor in self.rows] if count > 0 else []
        self.covered = 0
        self.last = None

    def accept(self, header, size):
        kind, dtype, codec, layer, begin, count, quality, reserved0, reserved1 = struct.unpack(
            "<BBHIQIHHQ", header)
        kind = chr(kind)
        require(reserved0 == 0 and reserved1 == 0, "reserved bits of a tile")
        require(dtype in DTYPE_NUMBERS, "unknown dtype of a tile")
        require((layer, kind) in self.rows, "a tile that META does not declare")
        dtype = DTYPE_NUMBERS[dtype]
        place = (kind, dtype, layer, begin, count)
        if quality > 0:
            require(quality < self.meta["quality_layers"], "quality over META's")
            require(codec != 0, "a raw refinement")
            require(self.last == (*place, quality - 1), "a refinement without its tile")
        else:
            require(bool(self.expected), "a tile too many")
            (tensor, total), begun = self.expected[0], self.covered
            require(tensor == (layer, kind), "tiles out of order")
            require(begin == begun, "gap or overlap")
            require(1 <= count <= total - begun, "a tile of too many tokens, or none")
            require(kind == "E" or dtype == self.meta["dtype"], "a tile's dtype is not META's")
            require(begun == 0 or dtype == self.last[1], "a tensor of two dtypes")
            self.covered += count
            if self.covered == total:
                self.expected.pop(0)
                self.covered = 0
        if codec == 0:
            require(size == count * self.rows[layer, kind] * DTYPES[dtype], "a raw tile's size")
        self.last = (*place, quality)
        return {"kind": kind, "dtype": dtype, "codec": codec, "layer": layer,
                "token_begin": begin, "token_count": count, "quality": quality}


# --- The codec "planes" ---------------------------------------------------------------------------

def zstd(data):
    """Exactly one frame's content."""
    done = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True)
    require(done.returncode == 0, "a plane is no zstd frame")
    return done.stdout


def decode_planes(tile, row, coded):
    size = DTYPES[tile["dtype"]]
    bits, count = 8 * size, tile["token_count"] * row
    require(tile["quality"] == 0, "planes of a quality")
    at = 4
    require(len(coded) >= at, "no count of channels")
    channels = u32(coded, 0)
    require(channels in (0, row), "another count of channels")
    require(len(coded) - at >= 2 * channels, "shifts are missing")
    shifts = struct.unpack_from(f"<{channels}H", coded, at)
    at += 2 * channels
    planes = []
    for _ in range(size):
        require(len(coded) - at >= 4, "a plane is missing")
        field = u32(coded, at)
        length = field & 0x7FFFFFFF
        require(len(coded) - at - 4 >= length, "a plane is cut")
        plane = coded[at + 4:at + 4 + length]
        planes.append(plane if field >> 31 else zstd(plane))
        require(len(planes[-1]) == count, "a plane of another size")
        at += 4 + length
    require(at == len(coded), "bytes behind the planes")
    out = bytearray()
    for i in range(count):
        value = int.from_bytes(bytes(plane[i] for plane in planes), "big")
        if channels:
            shift = shifts[i % row]
            require(shift & 0x1E == 0, "reserved bits of a shift")
            moved = shift & ~0x1F
            moved = moved >> (16 - bits) if bits < 16 else moved << (bits - 16)
            value = (value - moved) % (1 << bits)
            value ^= (shift & 1) << (bits - 1)
        out += value.to_bytes(size, "little")
    return bytes(out)


# --- The stream ---------------------------------------------------------------------------------

MAGIC = bytes.fromhex("8b4b56430d0a1a0a")


def layer_of(meta, index):
    for run in meta["layers"]:
        if run["first"] <= index < run["first"] + run["count"]:
            return run
    return None


class Stream:
    def __init__(self, data, profiles):
        self.data = data
        self.profiles = profiles  # by their hash
        self.at = 0
        self.chain = 0

    def take(self, n):
        require(len(self.data) - self.at >= n, "truncated")
        part = self.data[self.at:self.at + n]
        self.at += n
        return part

    def frame(self):
        header = self.take(32)
        kind, flags, size, payload_hash, header_hash = struct.unpack("<4sIQQQ", header)
        require(xxh3(header[:24], self.chain) == header_hash, "header_hash")
        self.chain = header_hash
        require(flags & ~1 == 0, "unknown flags")
        require(size <= (1 << 20 if kind == b"META" else 1 << 30), "a frame is too large")
        payload = self.take(size)
        require(xxh3(payload) == payload_hash, "payload_hash")
        require(not any(self.take(-self.at % 16)), "padding")
        known = kind in (b"META", b"TOKN", b"TENS", b"INDX", b"END ")  # IMPT is optional
        require(flags == (0 if known else 1), "flags of the frame's type")
        return kind, payload, payload_hash

    def member(self):
        start = self.at
        magic, major, _minor, reserved = struct.unpack("<8sHHI", self.take(16))
        require(magic == MAGIC, "no magic")
        require(major == 1, "major version")
        require(reserved == 0, "reserved bits of the member header")
        self.chain = xxh3(self.data[start:start + 16])
        kind, payload, _ = self.frame()
        require(kind == b"META", "no META")
        meta = check_meta(payload)
        tiles, tokens, decoded, entries, index_at = Tiles(meta), None, [], [], 0
        importance = None
        columns = {}  # of codec 2, by first token
        frames = 1
        while True:
            at = self.at - start
            before = kind
            kind, payload, payload_hash = self.frame()
            frames += 1
            require(frames <= 1 << 22, "too many frames")
            require(index_at == 0 or kind == b"END ", "a frame between INDX and END")
            if kind == b"TOKN":
                require(tokens is None and not decoded and importance is None,
                        "TOKN is out of place")
                require(len(payload) == 4 * meta["token_count"], "TOKN's size")
                tokens = list(struct.unpack(f"<{meta['token_count']}I", payload))
                require(max(tokens, default=0) < 1 << 31, "a token id")
            elif kind == b"IMPT":
                require(before in (b"META", b"TOKN"), "IMPT is out of place")
                rows = sum(row_kind != "E" for _, row_kind in tiles.rows)
                require(len(payload) == rows * meta["token_count"], "IMPT's size")
                require(all(payload), "a byte of IMPT is 0")
                importance = list(payload)
            elif kind == b"TENS":
                require(len(payload) >= 32, "no tile header")
                tile = tiles.accept(payload[:32], len(payload) - 32)
                tile["sha256"] = hashlib.sha256(payload[32:]).hexdigest()
                if tile["codec"] == 1 and shutil.which("zstd"):
                    row = tiles.rows[tile["layer"], tile["kind"]]
                    elements = decode_planes(tile, row, payload[32:])
                    tile["elements_sha256"] = hashlib.sha256(elements).hexdigest()
                if tile["codec"] in refdecode_lossy.CODECS:
                    elements = refdecode_lossy.decode_lossy(
                        tile, layer_of(meta, tile["layer"]), tiles.rows[tile["layer"], tile["kind"]],
                        payload[32:], self.profiles, require)
                    tile["elements_sha256"] = hashlib.sha256(elements).hexdigest()
                if tile["codec"] in refdecode_ecsq.CODECS and shutil.which("zstd"):
                    if tile["codec"] == 3:
                        refined = refdecode_ecsq.Tile(
                            payload[32:], tile["token_count"],
                            tiles.rows[tile["layer"], tile["kind"]], tile["dtype"], zstd, require)
                    else:
                        refined.refine(payload[32:])
                        # The elements are the last quality's.
                        decoded[-1].pop("elements_sha256")
                    elements = refined.elements()
                    tile["elements_sha256"] = hashlib.sha256(elements).hexdigest()
                if tile["codec"] in refdecode_clp.CODECS and shutil.which("zstd"):
                    require(tile["quality"] == 0, "a refinement of codec 2")
                    columns.setdefault(tile["token_begin"], []).append((tile, payload[32:]))
                decoded.append(tile)
                entries.append(struct.pack("<QQQQ", at, len(payload), payload_hash, 0)
                               + payload[:32])
            elif kind == b"INDX":
                require(payload == b"".join(entries), "INDX does not match")
                index_at = at
            elif kind == b"END ":
                require(not tiles.expected, "tensors are missing")
                require(payload == struct.pack("<QQQQ", frames, self.at - start, index_at, 0),
                        "END does not match")
                break
            else:
                require(kind != b"META", "second META")
        for column in columns.values():
            elements = refdecode_clp.decode_column(column, self.profiles, zstd, require)
            for (tile, _), of_tile in zip(column, elements):
                tile["elements_sha256"] = hashlib.sha256(of_tile).hexdigest()
        return {"meta": meta, "tokens": tokens or [], "importance": importance or [],
                "tiles": decoded, "member_hash": f"{self.chain:016x}"}

    def members(self):
        require(bool(self.data), "empty")
        while self.at < len(self.data):
            yield self.member()


def main():
    if len(sys.argv) != 2:
        print("usage: refdecode.py FILE", file=sys.stderr)
        return 2
    path = pathlib.Path(sys.argv[1])
    profiles = [other.read_bytes() for other in path.parent.glob("../*.kvprofile")]
    by_name = {xxh3(content): content for content in profiles}
    for content in [other.read_bytes() for other in path.parent.glob("../*.kvp")]:
        by_name[refdecode_clp.profile_name(content)] = content
    stream = Stream(path.read_bytes(), by_name)
    try:
        members = list(stream.members())
    except Refused as cause:
        print(f"refdecode: {sys.argv[1]}: byte {stream.at}: {cause}", file=sys.stderr)
        return 3
    print(json.dumps(members, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
