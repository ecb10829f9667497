"""The codec clp of kv(5) and the profiles of kvprofile(5) for refdecode.py, slow and plain, written
from the man pages alone."""

import bisect
import json
import math
import struct

from refdecode_ecsq import PARTS, class_of, groups_of, signed
from refdecode_lossy import Data, rans
from refdecode_xxh3 import xxh3

CODECS = (2,)
SIZES = {"f32": 4, "f16": 2, "bf16": 2, "fp8_e4m3": 1, "fp8_e5m2": 1}


# --- Numbers --------------------------------------------------------------------------------------

def packed(form, x):
    try:
        return struct.pack(form, x)
    except OverflowError:
        return struct.pack(form, math.copysign(math.inf, x))


def f32(x):
    return struct.unpack("<f", packed("<f", x))[0]


def wrapped(x):
    return signed(x & 0xFFFFFFFF, 32)


def shift(a, s):
    return wrapped(a * 2**s) if s >= 0 else wrapped(a + 2**(-s - 1)) // 2**-s


def fp8_values(exponent_bits, bias):
    """What the codes from 0 on are worth, those that are finite, without sign."""
    mantissa_bits = 7 - exponent_bits
    values = []
    for code in range(128):
        exponent, mantissa = code >> mantissa_bits, code & (1 << mantissa_bits) - 1
        if exponent == 0:
            values.append(math.ldexp(mantissa, 1 - bias - mantissa_bits))
        else:
            values.append(math.ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits))
    return values[:0x7F] if exponent_bits == 4 else values[:0x7C]


FP8 = {"fp8_e4m3": fp8_values(4, 7), "fp8_e5m2": fp8_values(5, 15)}


def element(x, dtype):
    if dtype in ("f32", "f16"):
        return packed("<f" if dtype == "f32" else "<e", x)
    if dtype == "bf16":
        bits = struct.unpack("<I", packed("<f", x))[0]
        return struct.pack("<H", bits + 0x7FFF + (bits >> 16 & 1) >> 16)
    values = FP8[dtype]
    above = min(bisect.bisect_left(values, abs(x)), len(values) - 1)
    near = [code for code in (above - 1, above) if code >= 0]
    code = min(near, key=lambda c: (abs(abs(x) - values[c]), c % 2)) if abs(x) < math.inf else above
    return bytes([code | (0x80 if math.copysign(1, x) < 0 else 0)])


def value(data, dtype):
    if dtype in ("f32", "f16"):
        return struct.unpack("<f" if dtype == "f32" else "<e", data)[0]
    if dtype == "bf16":
        return struct.unpack("<f", b"\0\0" + data)[0]
    code, values = data[0] & 0x7F, FP8[dtype]
    if code >= len(values):
        x = math.inf if dtype == "fp8_e5m2" and code == len(values) else math.nan
    else:
        x = values[code]
    return -x if data[0] & 0x80 else x


# --- Profiles -------------------------------------------------------------------------------------

class Tensor:
    def __init__(self, head, before, require):
        self.layer, self.kind, self.channels = head["layer"], head["kind"], head["channels"]
        self.context = [(self.layer - source["back"], source["kind"]) for source in head["context"]]
        require(all(source in before for source in self.context), "a context that is not before")
        self.inputs = sum(before[source].channels for source in self.context)

    def read(self, data):
        def array(form, rows=1):
            values = struct.unpack(f"<{rows * self.channels}{form}",
                                   data.take(rows * self.channels * struct.calcsize(form)))
            return values

        def matrix(columns):
            values = array("b", columns)
            return [values[i:i + columns] for i in range(0, len(values), columns)]

        self.predictor = matrix(self.inputs) if self.inputs else [()] * self.channels
        self.basis = matrix(self.channels)
        self.mean, self.unit, self.gain = array("f"), array("f"), array("b")
        self.shift, self.shape, self.sigma = array("B"), array("B"), array("b")


def profile_name(content):
    """The hash that names it; None: this is no profile of clp."""
    magic, version = content[:8], content[8:10]
    if magic != bytes.fromhex("8b4b56500d0a1a0a") or version != b"\1\0":
        return None
    return int.from_bytes(content[24:32], "little")


def read_profile(content, require):
    data = Data(content, require)
    reserved, json_bytes, size, name = struct.unpack("<10xHIQQ", data.take(32))
    require(reserved == 0 and size == len(content), "the profile's header")
    require(name == xxh3(content[32:]), "the profile's hash")
    tensors = {}
    for head in json.loads(data.take(json_bytes).decode())["tensors"]:
        tensors[head["layer"], head["kind"]] = Tensor(head, tensors, require)
    for tensor in tensors.values():
        tensor.read(data)
    require(data.at == len(content), "bytes behind the profile")
    return tensors


# --- Tiles ----------------------------------------------------------------------------------------

class Tile:
    """Decoded: `elements`, and what later predictions use: `steps` and `n`, [token][channel]."""

    def __init__(self, tile, coded, profile, context, zstd, require):
        self.require, self.profile, self.context = require, profile, context
        self.tokens, self.dtype = tile["token_count"], tile["dtype"]
        self.row_bytes = profile.channels * SIZES[self.dtype]
        data = Data(coded, require)
        _, self.base, flags, exact, steps_bytes, planes, escapes = struct.unpack(
            "<QhHHHII", data.take(24))
        require(abs(self.base) <= 64 and flags & ~1 == 0, "the head")
        self.exact = [data.get("H") for _ in range(exact)]
        require(self.exact == sorted(set(self.exact) & set(range(self.tokens))), "exact tokens")
        rows = {t: data.take(self.row_bytes) for t in self.exact}
        self.read_steps(zstd(data.take(steps_bytes)) if steps_bytes else b"", flags)
        words = [data.get("I") for _ in range(planes)]
        rest = [data.get("b") for _ in range(escapes)]
        coefficients = self.symbols(data.take(len(coded) - data.at), words, rest)
        self.n, self.elements = [], b""
        for t in range(self.tokens):
            self.n.append([])
            self.elements += (self.exact_token(rows[t]) if t in rows
                              else self.token(t, coefficients[t]))

    def read_steps(self, frame, flags):
        self.steps = [signed(byte, 8) for byte in frame] or [0] * self.tokens
        self.require(len(self.steps) == self.tokens, "steps")
        if flags & 1:
            self.require(frame and self.context, "steps beside none")
            self.steps = [a + b for a, b in zip(self.steps, self.context[-1].steps)]
        self.require(all(-16 <= step <= 16 for step in self.steps), "a step")

    def eighths(self, token):
        return self.base + 4 * self.steps[token]

    def symbols(self, stream, words, rest):
        order = sorted((t for t in range(self.tokens) if t not in self.exact),
                       key=lambda t: self.steps[t])
        plan = []
        for k in range(self.profile.channels):
            for group in groups_of(order):
                eighths = self.eighths(group[(len(group) - 1) // 2])
                of = class_of(self.profile.shape[k], self.profile.sigma[k] - eighths)
                if of:
                    plan.append((k, group, of[0], of[1]))
        values = rans(stream, [(table, len(group)) for _, group, table, _ in plan], self.require)
        out = [[0] * self.profile.channels for _ in range(self.tokens)]
        for (k, group, _, low), lanes in zip(plan, values):
            self.require(len(words) >= low, "planes")
            own, words = words[:low], words[low:]
            for lane, (t, symbol) in enumerate(zip(group, lanes)):
                if symbol is None:
                    self.require(rest, "escapes")
                    symbol = rest.pop(0)
                elif low:
                    u = sum((own[i] >> lane & 1) << i for i in range(low))
                    symbol = symbol * 2**low - 2**(low - 1) + u
                out[t][k] = signed(symbol & 255, 8)
        self.require(not words and not rest, "words or escapes are left")
        return out

    def token(self, t, coefficients):
        profile = self.profile
        inputs = [value for tile in self.context for value in tile.n[t]]
        octave, part = divmod(self.eighths(t), 8)
        out = b""
        for c in range(profile.channels):
            predicted = wrapped(sum(w * n for w, n in zip(profile.predictor[c], inputs)))
            sum_ = sum(w * x for w, x in zip(profile.basis[c], coefficients))
            sum_ = wrapped(sum_ * 2**profile.gain[c])
            v = wrapped(predicted + shift(wrapped(sum_ * PARTS[part]), octave - 7))
            self.n[t].append(max(-127, min(127, shift(v, -profile.shift[c]))))
            out += element(f32(profile.mean[c] + f32(f32(v) * profile.unit[c])), self.dtype)
        return out

    def exact_token(self, row):
        profile, size = self.profile, SIZES[self.dtype]
        for c in range(profile.channels):
            x = value(row[c * size:(c + 1) * size], self.dtype)
            divisor = f32(profile.unit[c] * 2**profile.shift[c])
            quotient = f32(f32(x - profile.mean[c]) / divisor)
            if math.isnan(quotient):
                self.n[-1].append(-127)
            else:
                self.n[-1].append(round(max(-127, min(127, quotient))))
        return row


def decode_column(tiles, profiles, zstd, require):
    """(tile, coded) of all tiles of codec 2 that begin at one token; the elements in their order."""
    decoded = {}
    for tile, coded in sorted(tiles, key=lambda item: (item[0]["layer"], item[0]["kind"] != "V")):
        name = int.from_bytes(coded[:8], "little")
        require(name in profiles, "the profile is not there")
        if isinstance(profiles[name], bytes):
            profiles[name] = read_profile(profiles[name], require)
        at = tile["layer"], tile["kind"]
        require(at in profiles[name], "a tensor that the profile does not have")
        profile = profiles[name][at]
        require(all(source in decoded for source in profile.context), "a layer before is missing")
        context = [decoded[source] for source in profile.context]
        require(all(other.tokens == tile["token_count"] for other in context), "other cuts")
        decoded[at] = Tile(tile, coded, profile, context, zstd, require)
    return [decoded[tile["layer"], tile["kind"]].elements for tile, _ in tiles]
