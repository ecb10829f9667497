"""Our dequantisation beside the package gguf's, bit for bit: dequantize.py PROBE.

A small model whose matrices are one of each type: values that gguf quantised where it can, blocks
of random bits with finite scales, and all 65,536 of F16 and BF16. Both take the products and the
sum of a block in f32, in the same order, so that no bit may differ; of a NaN only that it is one.
"""

import subprocess
import sys
import tempfile
import types
from pathlib import Path

import gguf
import numpy as np
from gguf import quants

from gguf_model import write_gguf

Type = gguf.GGMLQuantizationType
# Where the scales, halves, stand in a block.
SCALES = {Type.Q8_0: [0], Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2],
          Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208]}
QUANTISED = {Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1}
CONFIG = types.SimpleNamespace(
    hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5,
    rope_parameters={"rope_theta": 10000.0})


def halves(count, random):
    """Finite ones of all sizes, subnormals and zeros too."""
    bits = random.integers(0, 0x7C00, count) | random.integers(0, 2, count) << 15
    bits[:2] = 0, 0x8001
    return bits.astype(np.uint16).view(np.uint8).reshape(count, 2)


def matrix(kind, rows, random):
    """Of `rows` x 256 elements, as the file holds them."""
    if kind == Type.F32:
        return random.standard_normal((rows, 256)).astype(np.float32)
    if kind in (Type.F16, Type.BF16):
        bits = np.arange(65536, dtype=np.uint16).reshape(256, 256)[:rows]
        return bits.view(np.float16) if kind == Type.F16 else bits.view(np.uint8)
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (rows * 256 // elements, size), dtype=np.uint8)
    for at in SCALES[kind]:
        blocks[:, at:at + 2] = halves(len(blocks), random)
    packed = blocks.reshape(rows, -1)
    if kind in QUANTISED:
        values = random.standard_normal((rows // 2, 256)).astype(np.float32)
        packed[:rows // 2] = quants.quantize(values, kind)
    return packed


def model(random):
    kinds = [Type.F32, Type.F16, Type.BF16, *SCALES]
    weights, used = {}, 0

    def add(name, rows):
        nonlocal used
        kind = kinds[used % len(kinds)]
        weights[name] = matrix(kind, rows, random), kind
        used += 1

    def add_norm(name):
        weights[name] = random.standard_normal(256).astype(np.float32), Type.F32

    for layer in range(CONFIG.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        for name in ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "self_attn.q_proj",
                     "self_attn.o_proj"):
            add(f"{prefix}{name}.weight", 256)
        add(f"{prefix}self_attn.k_proj.weight", 128)
        add(f"{prefix}self_attn.v_proj.weight", 128)
        add_norm(f"{prefix}input_layernorm.weight")
        add_norm(f"{prefix}post_attention_layernorm.weight")
    add("model.embed_tokens.weight", 256)
    add_norm("model.norm.weight")
    assert used >= len(kinds), "a type without a matrix"
    return weights


def ours(probe, path):
    """By name, what the probe read."""
    data = subprocess.run([probe, path], stdout=subprocess.PIPE, check=True).stdout
    read, at = {}, 0
    while at < len(data):
        end = data.index(b"\n", at)
        name, *shape = data[at:end].decode().split(" ")
        shape = tuple(map(int, shape))
        count = int(np.prod(shape))
        read[name] = np.frombuffer(data, np.float32, count, end + 1).reshape(shape)
        at = end + 1 + 4 * count
    return read


def main(probe):
    weights = model(np.random.default_rng(20))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "types.gguf"
        write_gguf(path, CONFIG, weights)
        read = ours(probe, path)
    assert read.keys() == weights.keys(), "names"
    failed = 0
    for name, (packed, kind) in weights.items():
        with np.errstate(invalid="ignore"):
            theirs = quants.dequantize(packed, kind)
        nan = np.isnan(theirs)
        same = read[name].shape == theirs.shape and np.array_equal(nan, np.isnan(read[name]))
        same = same and np.array_equal(read[name].view(np.uint32)[~nan],
                                       theirs.view(np.uint32)[~nan])
        print(f"{'ok  ' if same else 'FAIL'} {kind.name:5s} {name}: {theirs.size} values")
        failed += not same
    print(f"{len(weights)} weights, {failed} differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
