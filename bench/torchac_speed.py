#!/usr/bin/env python3
"""bench/torchac_speed.py [ROUNDS]: torchac, the arithmetic coder of CacheGen's paper and of learned codecs,
on one thread: symbols of about 1.1 bits, as many as two layers of 2,048 tokens have. One row for the
table of bench/clp.sh, in GB/s of the bf16 values that the symbols would stand for."""
import sys
import time

import torch
import torchac

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
torch.set_num_threads(1)
torch.manual_seed(1)
count = 2 * 2 * 2048 * 192
mass = torch.exp(-1.6 * (torch.arange(16) - 7).abs().float())
mass /= mass.sum()
cdf = torch.cat([torch.zeros(1), mass.cumsum(0)])
cdf[-1] = 1
symbols = torch.multinomial(mass, count, replacement=True).to(torch.int16)
of_each = cdf.expand(count, -1).contiguous()
whole = (of_each * (2**16 - 1 - 16)).round().to(torch.int32) + torch.arange(17, dtype=torch.int32)
whole = (whole - (whole >= 2**15).to(torch.int32) * 2**16).to(torch.int16)
coded = torchac.encode_int16_normalized_cdf(whole, symbols)
best = 1e9
for _ in range(rounds):
    start = time.process_time()
    back = torchac.decode_int16_normalized_cdf(whole, coded)
    best = min(best, time.process_time() - start)
assert torch.equal(back, symbols)
print(f"| torchac, entropy decoding alone, {8 * len(coded) / count:.2f} bits a symbol "
      f"| {16 * count / 8 / len(coded):.2f} | {2e-9 * count / best:.3f} |")
