"""XXH3, 64 bits, from its specification."""

MASK64 = (1 << 64) - 1

SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8"
    "fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb17"
    "0ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e")
P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
PMX1, PMX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25


def u32(b, i):
    return int.from_bytes(b[i:i + 4], "little")


def u64(b, i):
    return int.from_bytes(b[i:i + 8], "little")


def fold(a, b):
    p = a * b
    return (p ^ (p >> 64)) & MASK64


def rotl(x, n):
    return ((x << n) | (x >> (64 - n))) & MASK64


def swap64(x):
    return int.from_bytes(x.to_bytes(8, "little"), "big")


def avalanche(h):
    h ^= h >> 37
    h = h * PMX1 & MASK64
    return h ^ (h >> 32)


def avalanche_xxh64(h):
    h ^= h >> 33
    h = h * P64_2 & MASK64
    h ^= h >> 29
    h = h * P64_3 & MASK64
    return h ^ (h >> 32)


def mix16(b, i, s, seed):
    return fold(u64(b, i) ^ (u64(SECRET, s) + seed & MASK64),
                u64(b, i + 8) ^ (u64(SECRET, s + 8) - seed & MASK64))


def xxh3_short(b, seed):
    n = len(b)
    if n == 0:
        return avalanche_xxh64(seed ^ u64(SECRET, 56) ^ u64(SECRET, 64))
    if n <= 3:
        combined = b[n - 1] | n << 8 | b[0] << 16 | b[n >> 1] << 24
        return avalanche_xxh64(combined ^ ((u32(SECRET, 0) ^ u32(SECRET, 4)) + seed & MASK64))
    if n <= 8:
        seed ^= int.from_bytes((seed & 0xFFFFFFFF).to_bytes(4, "little"), "big") << 32
        key = (u64(SECRET, 8) ^ u64(SECRET, 16)) - seed & MASK64
        h = key ^ (u32(b, n - 4) + (u32(b, 0) << 32))
        h ^= rotl(h, 49) ^ rotl(h, 24)
        h = h * PMX2 & MASK64
        h ^= (h >> 35) + n
        h = h * PMX2 & MASK64
        return h ^ (h >> 28)
    low = u64(b, 0) ^ ((u64(SECRET, 24) ^ u64(SECRET, 32)) + seed & MASK64)
    high = u64(b, n - 8) ^ ((u64(SECRET, 40) ^ u64(SECRET, 48)) - seed & MASK64)
    return avalanche(n + swap64(low) + high + fold(low, high) & MASK64)


def xxh3_middle(b, seed):
    n = len(b)
    h = n * P64_1
    if n <= 128:
        for i in range((n - 1) // 32, -1, -1):
            h += mix16(b, 16 * i, 32 * i, seed) + mix16(b, n - 16 * (i + 1), 32 * i + 16, seed)
        return avalanche(h & MASK64)
    for i in range(8):
        h += mix16(b, 16 * i, 16 * i, seed)
    h = avalanche(h & MASK64)
    for i in range(8, n // 16):
        h += mix16(b, 16 * i, 16 * (i - 8) + 3, seed)
    return avalanche(h + mix16(b, n - 16, 136 - 17, seed) & MASK64)


def accumulate(acc, b, i, s):
    for lane in range(8):
        value = u64(b, i + 8 * lane)
        key = value ^ u64(SECRET, s + 8 * lane)
        acc[lane ^ 1] = acc[lane ^ 1] + value & MASK64
        acc[lane] = acc[lane] + (key & 0xFFFFFFFF) * (key >> 32) & MASK64


def xxh3_long(b):
    acc = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]
    n = len(b)
    stripes = (len(SECRET) - 64) // 8  # of a block
    for stripe in range((n - 1) // 64):
        accumulate(acc, b, 64 * stripe, 8 * (stripe % stripes))
        if stripe % stripes == stripes - 1:
            for lane in range(8):
                key = u64(SECRET, len(SECRET) - 64 + 8 * lane)
                acc[lane] = (acc[lane] ^ (acc[lane] >> 47) ^ key) * P32_1 & MASK64
    accumulate(acc, b, n - 64, len(SECRET) - 64 - 7)
    h = n * P64_1
    for i in range(4):
        h += fold(acc[2 * i] ^ u64(SECRET, 11 + 16 * i), acc[2 * i + 1] ^ u64(SECRET, 19 + 16 * i))
    return avalanche(h & MASK64)


def xxh3(b, seed=0):
    if len(b) <= 16:
        return xxh3_short(b, seed)
    if len(b) <= 240:
        return xxh3_middle(b, seed)
    assert seed == 0, "a seed changes the secret of long inputs, which this format never needs"
    return xxh3_long(b)
