"""The codecs ecsq and thirds of kv(5) for refdecode.py, slow and plain, written from the man page
alone."""

import functools
import math
import struct

from refdecode_lossy import Bits, Data, element, f32, rans

CODECS = (3, 4)
PARTS = (128, 140, 152, 166, 181, 197, 215, 235)
LEAST_CODED = (-13, -14, -15, -17)


def e(x):
    if x > 40:
        return 0.0
    h = int(x / 0.6931471805599453)
    r = x - h * 0.6931471805599453
    s = 1.0
    for n in range(16, 0, -1):
        s = 1 - r / n * s
    for _ in range(h):
        s = s * 0.5
    return s


def gauss(x):
    return 0.3989422804014327 * e(0.5 * x * x)


def laplace(x, d):
    return e(1.4142135623730951 * x / d) / (1.4142135623730951 * d)


def mass(shape, a, b):
    def p(x):
        if shape == 0:
            return gauss(x)
        if shape == 1:
            return 0.5 * gauss(x) + 0.5 * laplace(x, 1.0)
        if shape == 2:
            return laplace(x, 1.0)
        return 0.8 * laplace(x, 0.5) + 0.2 * laplace(x, 2.0)

    w = (b - a) / 16
    s = p(a) + p(b)
    for i in range(1, 16):
        s = s + (4 if i % 2 else 2) * p(a + i * w)
    return s * w / 3


def one_over_deviation(g):
    d = 1.0
    for _ in range(abs(g)):
        d = d * 1.0905077326652577 if g > 0 else d / 1.0905077326652577
    return 1 / d


@functools.lru_cache(None)
def class_table(shape, g):
    t = one_over_deviation(g)
    m = [2 * mass(shape, 0, 0.5 * t)]
    m += [mass(shape, (v - 0.5) * t, (v + 0.5) * t) for v in range(1, 16)]

    def cover(j):
        s = m[0]
        for v in range(1, j + 1):
            s = s + 2 * m[v]
        return s

    j = next((j for j in (1, 3, 7) if not cover(j) < 1 - 1 / 512), 15)
    of = [max(1, int(m[v] * 4096 + 0.5)) for v in range(1, j + 1)]
    escape = max(1, int(max(0.0, 1 - cover(j)) * 4096 + 0.5))
    return of[::-1] + [4096 - 2 * sum(of) - escape] + of + [escape]


@functools.lru_cache(None)
def third_table(shape, g, x):
    t = one_over_deviation(g)

    def at(j):
        return (x + j / 6) * t

    high = mass(shape, at(1), at(3))
    if x == 0:
        low, middle = high, 2 * mass(shape, 0, at(1))
    else:
        low, middle = mass(shape, at(-3), at(-1)), mass(shape, at(-1), at(1))
    total = low + middle + high
    of = [max(1, int(q / total * 4096 + 0.5)) for q in (low, middle, high)]
    rest = 1 if x == 0 else 0
    of[rest] = 4096 - 1 - sum(of) + of[rest]
    return of + [1]


def class_of(shape, g):
    """The table and the low bits; None where nothing is coded."""
    if g < LEAST_CODED[shape]:
        return None
    g = min(g, 56)
    low = 0
    while g >= 16:
        g, low = g - 8, low + 1
    return class_table(shape, g), low


def signed(value, bits):
    return value - (1 << bits) if bits and value >> (bits - 1) else value


def groups_of(tokens):
    return [tokens[i:i + 32] for i in range(0, len(tokens), 32)]


class Tile:
    """A tile of codec 3; refine() takes those of codec 4."""

    def __init__(self, coded, tokens, row, dtype, zstd, require):
        self.require, self.tokens, self.row, self.dtype = require, tokens, row, dtype
        data = Data(coded, require)
        self.base, rotations, mean_bits, wider_bits, self.mean_shift = struct.unpack(
            "<fHBBB", data.take(9))
        require(data.take(3) == bytes(3), "reserved bytes")
        width = max(1, (row - 1).bit_length())
        bits = row * (mean_bits + wider_bits + 9) + rotations * (2 * width + 7)
        packed = Bits(data.take((bits + 7) // 8))
        self.mean, self.wider, self.sigma, self.shape = [], [], [], []
        for _ in range(row):
            self.mean.append(signed(packed.get(mean_bits), mean_bits))
            self.wider.append(packed.get(wider_bits))
            self.sigma.append(packed.get(7) - 50)
            self.shape.append(packed.get(2))
        self.rotations = [(packed.get(width), packed.get(width), signed(packed.get(7), 7))
                          for _ in range(rotations)]
        self.integers(data, zstd)
        self.qualities = 0

    def integers(self, data, zstd):
        profile, base, flags, exact, steps_bytes, planes, escapes = struct.unpack(
            "<QhHHHII", data.take(24))
        self.require(profile == 0 and base == 0 and flags == 0, "a head of codec 2")
        size = self.row * {"f32": 4, "f16": 2, "bf16": 2}[self.dtype]
        self.exact = [data.get("H") for _ in range(exact)]
        self.exact_rows = [data.take(size) for _ in range(exact)]
        frame = data.take(steps_bytes)
        self.steps = [0] * self.tokens
        if frame:
            self.steps = [signed(byte, 8) for byte in zstd(frame)]
            self.require(len(self.steps) == self.tokens, "steps")
        words = [data.get("I") for _ in range(planes)]
        rest = [data.get("b") for _ in range(escapes)]
        order = [t for t in range(self.tokens) if t not in self.exact]
        self.order = sorted(order, key=lambda t: self.steps[t])
        plan = []
        for k in range(self.row):
            for group in groups_of(self.order):
                of = class_of(self.shape[k], self.sigma[k] - self.eighths(group))
                if of:
                    plan.append((k, group, of[0], of[1]))
        stream = data.take(len(data.data) - data.at)
        symbols = rans(stream, [(table, len(group)) for _, group, table, _ in plan], self.require)
        self.v = [[0] * self.row for _ in range(self.tokens)]
        for (k, group, _, low), lanes in zip(plan, symbols):
            own, words = words[:low], words[low:]
            for lane, (t, symbol) in enumerate(zip(group, lanes)):
                if symbol is None:
                    value = rest.pop(0)
                elif low:
                    u = sum((own[i] >> lane & 1) << i for i in range(low))
                    value = symbol * 2**low - 2**(low - 1) + u
                else:
                    value = symbol
                self.v[t][k] = signed(value & 255, 8)
        self.require(not words and not rest, "words or escapes are left")

    def eighths(self, group):
        return 4 * self.steps[group[(len(group) - 1) // 2]]

    def refine(self, coded):
        plan = []
        for k in range(self.row):
            for x in range(3):
                tokens = [t for t in self.order if min(2, abs(self.v[t][k])) == x]
                for group in groups_of(tokens):
                    g = self.sigma[k] - self.eighths(group) + (0, 13, 25, 38)[self.qualities]
                    if x == 0 and g < LEAST_CODED[self.shape[k]]:
                        of = class_of(self.shape[k], g + 13)
                        if of:
                            plan.append((k, group, of[0]))
                    else:
                        g = max(-17, min(16, g))
                        plan.append((k, group, third_table(self.shape[k], g, x)))
        symbols = rans(coded, [(table, len(group)) for _, group, table in plan], self.require)
        finer = [[3 * v for v in line] for line in self.v]
        for (k, group, _), lanes in zip(plan, symbols):
            for t, symbol in zip(group, lanes):
                self.require(symbol is not None, "an escape")
                finer[t][k] += symbol if self.v[t][k] >= 0 else -symbol
        self.v = finer
        self.qualities += 1

    def elements(self):
        base = self.base
        for _ in range(self.qualities):
            base = f32(base / 3)
        unit = f32(self.base / 2**self.mean_shift)
        out = []
        for t in range(self.tokens):
            if t in self.exact:
                out.append(self.exact_rows[self.exact.index(t)])
                continue
            x = []
            for k in range(self.row):
                i = self.wider[k] + 4 * self.steps[t]
                step = f32(base * math.ldexp(PARTS[i % 8], i // 8 - 7))
                x.append(f32(self.v[t][k] * step))
            for a, b, angle in self.rotations:
                both = 25600 + angle**2
                c, s = f32((25600 - angle**2) / both), f32(320 * angle / both)
                x[a], x[b] = (f32(f32(c * x[a]) - f32(s * x[b])),
                              f32(f32(s * x[a]) + f32(c * x[b])))
            out += [element(f32(f32(self.mean[c] * unit) + x[c]), self.dtype)
                    for c in range(self.row)]
        return b"".join(out)
