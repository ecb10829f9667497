"""The lossy codecs of kv(5) for refdecode.py, slow and plain, written from the man page alone."""

import math
import struct

TYPES = {"f32": "<f", "f16": "<e"}
MOST = {"f32": 3.4028234663852886e38, "f16": 65504.0, "bf16": 3.3895313892515355e38}
CODECS = (8, 9, 10, 16, 17)


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


class Data:
    def __init__(self, data, require):
        self.data, self.at, self.require = data, 0, require

    def take(self, n):
        self.require(len(self.data) - self.at >= n, "data is cut")
        part = self.data[self.at:self.at + n]
        self.at += n
        return part

    def get(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.get("B")
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value


class Bits:
    def __init__(self, data):
        self.number, self.at = int.from_bytes(data, "little"), 0

    def get(self, n):
        value = self.number >> self.at & ((1 << n) - 1)
        self.at += n
        return value


def blocks(row, size):
    return [range(first, min(first + size, row)) for first in range(0, row, size)]


def q8_0(data, tokens, row):
    out = []
    for _ in range(tokens):
        for block in blocks(row, 32):
            scale = data.get("e")
            out += [f32(scale * data.get("b")) for _ in block]
    return out


def q4_0(data, tokens, row):
    out = []
    for _ in range(tokens):
        for block in blocks(row, 32):
            scale = data.get("e")
            half = (len(block) + 1) // 2
            codes = data.take(half)
            for i in range(len(block)):
                code = codes[i] & 15 if i < half else codes[i - half] >> 4
                out.append(f32(scale * (code - 8)))
    return out


def kivi(data, tokens, row, kind, bits, group, size):
    """The values, and the bytes of the tokens that are kept as they are."""
    out = []

    def scales(n):
        return [(data.get("e"), data.get("e")) for _ in range(n)]

    def value(scale, code):
        return f32(f32(code * scale[1]) + scale[0])

    if kind != "K":
        for _ in range(tokens):
            of = scales(len(blocks(row, group)))
            codes = Bits(data.take((row * bits + 7) // 8))
            out += [value(of[c // group], codes.get(bits)) for c in range(row)]
        return out, b""
    for _ in range(tokens // group):
        of = scales(row)
        codes = Bits(data.take((group * row * bits + 7) // 8))
        for _ in range(group):
            out += [value(of[c], codes.get(bits)) for c in range(row)]
    left = tokens % group * row
    return out + [0.0] * left, data.take(left * size)


def rans(data, steps, require):
    """The values of each step's lanes; None is the escape."""
    data = Data(data, require)
    states = [data.get("I") for _ in range(32)]
    out = []
    for table, lanes in steps:
        row = []
        for lane in range(lanes):
            x = states[lane]
            slot, begin, symbol = x & 4095, 0, 0
            while slot >= begin + table[symbol]:
                begin += table[symbol]
                symbol += 1
            x = table[symbol] * (x >> 12) + slot - begin
            if x < 1 << 16:
                x = x << 16 | data.get("H")
            states[lane] = x
            n = len(table)
            row.append(None if symbol == n - 1 else symbol - (n // 2 - 1))
        out.append(row)
    require(states == [1 << 16] * 32 and data.at == len(data.data), "a stream's end")
    return out


def read_profile(content, require):
    data = Data(content, require)
    require(data.take(8) == bytes.fromhex("8b4b56500d0a1a0a") and data.get("H") == 16, "a profile")
    levels, rotated = data.get("B"), data.get("B")
    tensors = {}
    for _ in range(data.get("I")):
        layer, kind, channels = data.get("I"), chr(data.get("I")), data.get("I")
        steps = [data.get("f") for _ in range(levels)]
        models = []
        for _ in range((1 + levels) * channels):
            offset, shift, symbols = data.get("h"), data.get("B"), data.get("B")
            models.append((offset, shift, [data.get("H") for _ in range(symbols)]))
        tensors[layer, kind] = (steps, [models[i:i + channels]
                                        for i in range(0, len(models), channels)])
    require(data.at == len(content), "bytes behind the profile")
    return rotated, tensors


def cachegen(data, tokens, row, tile, level, rotated, profiles, require):
    profile = data.get("Q")
    require(profile in profiles, "the profile is not there")
    profile_rotated, tensors = read_profile(profiles[profile], require)
    require(profile_rotated == rotated or tile["kind"] != "K", "a profile of rotated keys")
    steps, models = tensors[tile["layer"], tile["kind"]]
    anchors = [t for t in range(tokens) if t % 10 == 0]
    deltas = [t for t in range(tokens) if t % 10 != 0]
    scales = {t: data.get("e") for t in anchors}
    scales.update({t: data.get("e") for t in deltas})
    low = Bits(data.take(data.get("I")))
    escapes = Data(data.take(data.get("I")), require)
    symbols = {}
    for strip in blocks(row, 512):
        plan = []
        for of, all_tokens in ((models[0], anchors), (models[level], deltas)):
            for i in range(0, len(all_tokens), 32):
                plan += [(of[c], c, all_tokens[i:i + 32]) for c in strip]
        streams = data.get("I")
        values = []
        for i in range(streams):
            part = plan[len(plan) * i // streams:len(plan) * (i + 1) // streams]
            values += rans(data.take(data.get("I")), [(m[2], len(ts)) for m, _, ts in part], require)
        for ((offset, shift, _), c, ts), lanes in zip(plan, values):
            for t, v in zip(ts, lanes):
                if v is None:
                    n = escapes.varint()
                    symbols[t, c] = n // 2 if n % 2 == 0 else -(n + 1) // 2
                else:
                    symbols[t, c] = v * (1 << shift) + low.get(shift) + offset
    require(escapes.at == len(escapes.data), "escapes are left")
    out = []
    for t in range(tokens):
        if t % 10 == 0:
            anchor = [f32(symbols[t, c] * scales[t]) for c in range(row)]
            out += anchor
        else:
            step = f32(scales[t] * steps[level - 1])
            out += [f32(f32(symbols[t, c] * step) + anchor[c]) for c in range(row)]
    return out


def arithmetic(stream, count, table):
    """Symbols of a table of beginnings, without the entry behind the last symbol."""
    bits = "".join(f"{byte:08b}" for byte in stream)
    at = 32
    v = int((bits + "0" * 32)[:32], 2)
    low, high = 0, (1 << 32) - 1
    out = []
    for _ in range(count):
        span = high - low + 1
        place = ((v - low + 1) * 65536 - 1) // span
        symbol = max(s for s in range(len(table)) if table[s] <= place)
        end = table[symbol + 1] if symbol + 1 < len(table) else 65536
        high = low + span * end // 65536 - 1
        low = low + span * table[symbol] // 65536
        out.append(symbol)
        while True:
            if high >> 31 != low >> 31:
                if low < 1 << 30 or high >= 3 << 30:
                    break
                low, high, v = low - (1 << 30), high - (1 << 30), v - (1 << 30)
            bit = int(bits[at]) if at < len(bits) else 0
            at += 1
            low = low * 2 % (1 << 32)
            high = (high * 2 + 1) % (1 << 32)
            v = (v * 2 + bit) % (1 << 32)
    return out


def cachegen_code(data, tokens, row, dtype, head, require):
    bins, symbols, compact, chunk = head[1:]
    centre = bins // 2 - 1
    out = []
    for group in blocks(tokens, chunk):
        count = len(group)
        bits = [data.get("H") for _ in group]
        if dtype == "bf16":
            scales = [struct.unpack("<f", struct.pack("<I", b << 16))[0] for b in bits]
        else:
            scales = [struct.unpack("<e", struct.pack("<H", b))[0] for b in bits]
        tables = []
        for _ in range(row):
            if compact:
                first, last = data.get("B"), data.get("B")
                counts = [0] * symbols
                for s in range(first, last):
                    counts[s] = data.varint()
                counts[last] = count - sum(counts)
                tables.append([(65535 - symbols) * sum(counts[:s]) // count + s
                               for s in range(symbols)])
            else:
                tables.append([data.get("H") for _ in range(symbols + 1)][:-1])
        decoded = [[None] * row for _ in group]
        for part in blocks(count, 256):
            sizes = [data.varint() if compact else data.get("I") for _ in range(row)]
            for c in range(row):
                got = arithmetic(data.take(sizes[c]), len(part), tables[c])
                for t, symbol in zip(part, got):
                    decoded[t][c] = f32(f32((symbol - centre) / centre) * scales[t])
        for line in decoded:
            out += line
    return out


def frequencies(rope, d):
    out = []
    for i in range(d // 2):
        w = f32(rope["theta"] ** f32(2 * i / d))
        f = f32(1 / w)
        if rope["scaling"] == "linear":
            f = f32(f / rope["factor"])
        elif rope["scaling"] != "none":
            raise NotImplementedError(rope["scaling"])  # no golden file has it
        out.append(f)
    return out


def turn_back(values, position, rope, heads, d):
    of = frequencies(rope, d)
    row = heads * d
    for at in range(0, len(values), d):
        p = f32(position + at // row)
        for i in range(d // 2):
            angle = f32(p * of[i])
            cos = f32(math.cos(angle) / rope["attention_factor"])
            sin = f32(math.sin(angle) / rope["attention_factor"])
            a, b = values[at + i], values[at + i + d // 2]
            values[at + i] = f32(f32(a * cos) + f32(b * sin))
            values[at + i + d // 2] = f32(f32(b * cos) - f32(a * sin))


def element(value, dtype):
    value = max(-MOST[dtype], min(MOST[dtype], value))
    if dtype != "bf16":
        return struct.pack(TYPES[dtype], value)
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    return struct.pack("<H", bits + 0x7FFF + (bits >> 16 & 1) >> 16)


def decode_lossy(tile, layer, row, coded, profiles, require):
    """`layer` is the entry of META's layers; `profiles` are contents by hash."""
    data = Data(coded, require)
    head = struct.unpack("<BBBBI", data.take(8))
    position = data.get("Q") if head[0] & 1 else 0
    tokens, kind, codec, dtype = (tile[k] for k in ("token_count", "kind", "codec", "dtype"))
    exact = b""
    if codec == 8:
        values = q8_0(data, tokens, row)
    elif codec == 9:
        values = q4_0(data, tokens, row)
    elif codec == 10:
        size = 4 if dtype == "f32" else 2
        values, exact = kivi(data, tokens, row, kind, head[1], head[2], size)
    elif codec == 16:
        values = cachegen(data, tokens, row, tile, head[1], head[0] & 1, profiles, require)
    else:
        values = cachegen_code(data, tokens, row, dtype, head, require)
    require(data.at == len(coded), "bytes behind the tile")
    if head[0] & 1:
        turn_back(values, position, layer["rope"], layer["kv_heads"], layer["k_dim"])
    elements = b"".join(element(value, dtype) for value in values)
    return elements[:len(elements) - len(exact)] + exact
