"""Writes hand-made seeds for the fuzzers of model files: make_corpus.py CORPUS_FOLDER.

Sound files that reach each part of a parser, and files with one thing wrong. They are kept in the
repository; inputs that a fuzzer found lie beside them under their hashes.
"""

import json
import struct
import sys
from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q",
           I64: "q", F64: "d"}


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def value_of(kind, value):
    if kind == TEXT:
        return text(value)
    if kind == ARRAY:
        element, values = value
        return struct.pack("<IQ", element, len(values)) + b"".join(value_of(element, v) for v in values)
    return struct.pack("<" + FORMATS[kind], value)


def gguf(keys=(), tensors=(), version=3, magic=b"GGUF", alignment=32, counts=None):
    """`tensors`: (name, ggml type, dimensions, offset, bytes)."""
    head = magic + struct.pack("<IQQ", version, *(counts or (len(tensors), len(keys))))
    for name, kind, value in keys:
        head += text(name) + struct.pack("<I", kind) + value_of(kind, value)
    data = b""
    for name, kind, shape, offset, values in tensors:
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        data = (data.ljust(offset, b"\0") if offset < 4096 else data) + values
    return head + b"\0" * (-len(head) % alignment) + data


BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
          12: (256, 144), 13: (256, 176), 14: (256, 210), 30: (1, 2)}


def gguf_seeds():
    every_kind = [(f"k{kind}", kind, 1) for kind in FORMATS] + [("text", TEXT, "é")]
    arrays = [(f"a{kind}", ARRAY, (kind, [1, 0])) for kind in FORMATS]
    arrays.append(("tokenizer.ggml.tokens", ARRAY, (TEXT, ["a", "", "<s>"])))
    tensors, offset = [], 0
    for kind, (count, size) in BLOCKS.items():
        tensors.append((f"t{kind}", kind, [count, 2], offset, b"\x11" * 2 * size))
        offset += (2 * size + 31) // 32 * 32
    one = ("t", 0, [2], 0, bytes(8))
    yield "kinds", gguf(every_kind)
    yield "arrays", gguf(arrays)
    yield "types", gguf(tensors=tensors)
    yield "version_2", gguf(every_kind, [one], version=2)
    yield "version_1", gguf(every_kind, version=1)
    yield "big_endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0)
    yield "alignment_64", gguf([("general.alignment", U32, 64)], [one], alignment=64)
    yield "alignment_0", gguf([("general.alignment", U32, 0)], [one])
    yield "alignment_text", gguf([("general.alignment", TEXT, "32")], [one])
    yield "four_dimensions", gguf(tensors=[("t", 0, [2, 1, 1, 2], 0, bytes(16))])
    yield "five_dimensions", gguf(tensors=[("t", 0, [1, 1, 1, 1, 1], 0, bytes(4))])
    yield "dimensions_wrap", gguf(tensors=[("t", 0, [1 << 32, 1 << 31, 2], 0, bytes(8))])
    yield "negative_dimension", gguf(tensors=[("t", 0, [(1 << 64) - 1], 0, bytes(8))])
    yield "part_of_a_block", gguf(tensors=[("t", 8, [33], 0, bytes(68))])
    yield "offset_beyond", gguf(tensors=[("t", 0, [2], 1 << 20, bytes(8))])
    yield "offset_wraps", gguf(tensors=[("t", 0, [2], (1 << 64) - 32, b"")])
    yield "offset_unaligned", gguf(tensors=[("t", 0, [2], 4, bytes(8))])
    yield "unknown_type", gguf(tensors=[("t", 99, [2], 0, bytes(8))])
    yield "same_name", gguf(tensors=[one, one])
    yield "same_key", gguf([("k", U32, 1), ("k", TEXT, "x")])
    yield "array_of_arrays", gguf([("k", ARRAY, (ARRAY, [(U8, [1])]))])
    yield "many_keys", gguf(counts=(0, 1 << 60))
    yield "many_tensors", gguf(counts=(1 << 60, 0))
    yield "long_text", gguf(counts=(0, 1))[:24] + struct.pack("<Q", 1 << 40)
    yield "long_array", gguf(counts=(0, 1))[:24] + text("k") + struct.pack("<IIQ", ARRAY, U64, 1 << 61)


def safetensors(tensors, data=b"", size=None):
    head = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(head) if size is None else size) + head + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_seeds():
    yield "types", safetensors({
        "__metadata__": {"format": "pt", "é": "\U0001f44d"}, "f32": tensor("F32", [2, 1], 0, 8),
        "f16": tensor("F16", [2], 8, 12), "bf16": tensor("BF16", [1, 2], 12, 16)}, bytes(16))
    yield "scalar", safetensors({"t": tensor("F32", [], 0, 4)}, bytes(4))
    yield "no_elements", safetensors({"t": tensor("F32", [0, 5], 0, 0)})
    yield "no_tensors", safetensors({})
    yield "padded", safetensors(json.dumps({"t": tensor("F32", [1], 0, 4)}).encode() + b"   ", bytes(4))
    yield "other_dtype", safetensors({"t": tensor("F8_E4M3", [4], 0, 4)}, bytes(4))
    yield "overlap", safetensors({"a": tensor("F32", [1], 0, 4), "b": tensor("F32", [1], 2, 6)}, bytes(6))
    yield "reversed", safetensors({"t": tensor("F32", [1], 4, 0)}, bytes(4))
    yield "wrong_size", safetensors({"t": tensor("F32", [3], 0, 8)}, bytes(8))
    yield "beyond", safetensors({"t": tensor("F32", [2], 0, 8)}, bytes(4))
    yield "trailing", safetensors({"t": tensor("F32", [1], 0, 4)}, bytes(9))
    yield "shape_wraps", safetensors({"t": tensor("F32", [1 << 62, 4], 0, 0)})
    yield "negative", safetensors({"t": tensor("F32", [-1], -4, 0)}, bytes(4))
    yield "fraction", safetensors({"t": tensor("F32", [1.5], 0, 6.0)}, bytes(6))
    yield "same_name", safetensors(b'{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
                                   b'"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4))
    yield "deep", safetensors(b'{"t":' + b"[" * 200 + b"]" * 200 + b"}")
    yield "list", safetensors(b"[]")
    yield "not_utf8", safetensors(b'{"\xff":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4))
    yield "head_beyond", safetensors({}, size=1 << 62)
    yield "head_empty", safetensors(b"")


def added(index, content, **flags):
    return {"id": index, "content": content, "special": False, "single_word": False, "lstrip": False,
            "rstrip": False, "normalized": False, **flags}


def tokenizer_seeds():
    pieces = {t: i for i, t in enumerate(
        ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(0, 256, 17)), "\u2581", "x", "I", "t",
         "\u2581x", "It", "\U0001f44d"])}
    merges = [["\u2581", "x"], ["I", "t"]]
    plain = {"type": "BPE", "vocab": pieces, "merges": merges, "byte_fallback": True, "unk_token": "<unk>"}
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True}
    # As GPT-2 shows bytes: "Ġ" is a space, "Ċ" a line's end.
    level = {"type": "BPE", "merges": ["I t", "\u0120 x"],
             "vocab": {t: i for i, t in enumerate("It'sx12\u0120\u010a\u00f0\u0141\u0133\u012f")}}
    level["vocab"] |= {"It": 12, "\u0120x": 13}
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    files = {
        "metaspace": {"model": plain, "pre_tokenizer": metaspace},
        "metaspace_old": {"model": plain, "pre_tokenizer": {"type": "Metaspace", "add_prefix_space": True}},
        "llama2": {"model": plain, "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
            "added_tokens": [added(1, "<s>", special=True), added(2, "</s>", special=True)],
            "post_processor": {"type": "TemplateProcessing", "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}},
        "added_flags": {"model": plain, "pre_tokenizer": metaspace, "normalizer": {"type": "NFC"},
                        "added_tokens": [
                            added(30, "It", single_word=True), added(31, "12", lstrip=True, rstrip=True),
                            added(32, "x", normalized=True, lstrip=True), added(33, "\n ", special=True),
                            added(34, "e\u0301", normalized=True), added(35, "  ", lstrip=True)]},
        "byte_level_gpt2": {"model": level, "pre_tokenizer": bytes_of},
        "ignore_merges": {"model": {**level, "ignore_merges": True}, "pre_tokenizer": {
            "type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": "(?i:'s)|\\p{N}{1,3}|\\s+(?!\\S)|\\p{L}+"},
                 "behavior": "Isolated", "invert": False}, {**bytes_of, "use_regex": False}]}},
        "split_literal": {"model": level, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"String": "(."}, "behavior": "Isolated"}, bytes_of]}},
        "bad_regex": {"model": level, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "(a|"}, "behavior": "Isolated"}, bytes_of]}},
        "holes": {"model": {**plain, "vocab": {"<unk>": 0, "x": 4000}}, "added_tokens": [added(9, "y")]},
        "id_too_large": {"model": {**plain, "vocab": {"x": 1 << 40}}},
        "id_negative": {"model": plain, "added_tokens": [added(-1, "x")]},
        "same_id": {"model": {**plain, "vocab": {"a": 0, "b": 0}}, "added_tokens": [added(0, "c")]},
        "empty_added": {"model": plain, "added_tokens": [added(1, "")]},
        "merge_of_one": {"model": {**level, "merges": ["It"]}, "pre_tokenizer": bytes_of},
        "merge_unknown": {"model": {**level, "merges": ["q q", "\u0120 "]}, "pre_tokenizer": bytes_of},
        "unigram": {"model": {"type": "Unigram", "vocab": [["a", -1.0]]}},
        "mistyped": {"model": {"type": 1, "vocab": [], "merges": {}}, "added_tokens": {}},
    }
    for name, file in files.items():
        yield name, json.dumps(file, ensure_ascii=False).encode()


def chat_seeds():
    yield "chatml", b"{{ '<|im_start|>system\\nBe short.<|im_end|>\\n' }}{{ '<|im_start|>' + message['role'] }}"
    yield "llama2", (b"{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' %}"
                     b"{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
                     b"{{ ' ' + content.strip() + ' ' + eos_token }}")
    yield "llama3", (b'{%- set date_string = "26 Jul 2024" %}{{- "Cutting Knowledge Date: December 2023" }}'
                     b"{{ '<|start_header_id|>' }}")
    yield "mistral", (b'{%- if loop.last and system_message is defined %}{{- "[INST] " + system_message + '
                      b'"\\n\\n" + message["content"] + "[/INST]" }}{{- "[INST] " + message["content"] + '
                      b'"[/INST]" }}{{- " " + message["content"] | trim + eos_token }}')
    yield "open", b"{{ '[INST]\\"
    yield "operands", b"{{+'[INST]'++content+}}{{ content + '[INST]' + content }}{{'[INST]' + \"eos_token\"}}"


def npy(descr, shape, data, order="False", version=1, more=""):
    head = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, {more}}}\n".encode()
    size = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes([version, 0]) + size + head + data


def npy_seeds():
    """The first byte: 0 for keys, 1 for values, 2 for tokens, 3 for meta.json."""
    meta = {"format": "kvtools npy 1", "rope_applied": True, "token_count": 2, "first_position": 0}
    yield "keys", b"\0" + npy("<f4", "(2, 1, 4)", bytes(32))
    yield "keys_f2", b"\0" + npy("<f2", "(2, 1, 4)", bytes(16), version=2)
    yield "keys_wide", b"\0" + npy("<f4", "(2, 1, 8)", bytes(64))
    yield "values", b"\1" + npy("<f2", "(2, 1, 2)", bytes(8), version=3)
    yield "fortran", b"\0" + npy("<f4", "(2, 1, 4)", bytes(32), order="True")
    yield "big_endian", b"\0" + npy(">f4", "(2, 1, 4)", bytes(32))
    yield "wraps", b"\0" + npy("<f4", "(4294967296, 4294967296, 4)", bytes(32))
    yield "negative", b"\0" + npy("<f4", "(-2, 1, 4)", bytes(32))
    yield "twice", b"\0" + npy("<f4", "(2, 1, 4)", bytes(32), more="'descr': '<f4'")
    yield "scalar", b"\0" + npy("<f4", "()", bytes(4))
    yield "short", b"\0" + npy("<f4", "(2, 1, 4)", bytes(31))
    yield "tokens", b"\2" + npy("<i4", "(2,)", struct.pack("<2i", 1, 2))
    yield "tokens_wide", b"\2" + npy("<i8", "(2,)", struct.pack("<2q", 1, 1 << 40))
    yield "meta", b"\3" + json.dumps(meta).encode()
    yield "meta_many", b"\3" + json.dumps({**meta, "token_count": 1 << 26}).encode()
    yield "meta_later", b"\3" + json.dumps({**meta, "first_position": 1 << 52}).encode()


def llama_state(tokens=2, version=3, columns=0, layers=1, kind=1, row=8, cells=None, positions=None,
                sequences=1, tail=b""):
    """Of a layer with one head, keys of 4 and values of 2."""
    size = {0: 4, 1: 2, 30: 2}.get(kind, 2)
    positions = range(tokens) if positions is None else positions
    file = struct.pack("<III", 0x67677371, version, tokens) + struct.pack(f"<{tokens}i", *range(tokens))
    file += struct.pack("<II", 1, tokens if cells is None else cells)
    file += b"".join(struct.pack("<iIi", p, sequences, 0) for p in positions)
    file += struct.pack("<II", columns, layers) + struct.pack("<iQ", kind, row) + bytes(tokens * 4 * size)
    file += struct.pack("<iII", kind, size, 2) if columns else struct.pack("<iQ", kind, 2 * size)
    return file + bytes(tokens * 2 * size) + tail


def llama_seeds():
    yield "rows", llama_state()
    yield "columns", llama_state(columns=1)
    yield "f32", llama_state(kind=0, row=16)
    yield "bf16", llama_state(kind=30, version=2)
    yield "q8_0", llama_state(kind=8)
    yield "later", llama_state(positions=[7, 8])
    yield "gap", llama_state(positions=[7, 9])
    yield "negative", llama_state(positions=[-1, 0])
    yield "last", llama_state(positions=[(1 << 31) - 1, -(1 << 31)])
    yield "cells", llama_state(cells=3)
    yield "sequences", llama_state(sequences=2)
    yield "layers", llama_state(layers=2)
    yield "row", llama_state(row=16)
    yield "version", llama_state(version=4)
    yield "behind", llama_state(tail=b"\0")
    yield "many", llama_state()[:8] + struct.pack("<I", 0xFFFFFFFF)


def transformers_seeds():
    def cache(tokens=2, heads=1, batch=1, kind="BF16", ids=(1, 2), metadata=None):
        n = tokens * heads * batch * 2
        head = {"__metadata__": metadata or {"format": "pt"},
                "keys.0": tensor(kind, [batch, heads, tokens, 4], 0, 4 * n),
                "values.0": tensor(kind, [batch, heads, tokens, 2], 4 * n, 6 * n),
                "input_ids": tensor("I64", [1, len(ids)], 6 * n, 6 * n + 8 * len(ids))}
        return safetensors(head, bytes(6 * n) + struct.pack(f"<{len(ids)}q", *ids))

    yield "plain", cache()
    yield "heads", cache(heads=2)
    yield "batch", cache(batch=2)
    yield "f16", cache(kind="F16", metadata={"first_position": "9"})
    yield "position", cache(metadata={"first_position": "-9"})
    yield "fingerprint", cache(metadata={"fingerprint": "b" * 32})
    yield "ids", cache(ids=(1,))
    yield "id", cache(ids=(1, 1 << 40))
    yield "none", cache(tokens=0, ids=())


def vllm_seeds():
    def page(shape, kind="BF16", name="kv_cache"):
        size = 2
        for extent in shape:
            size *= extent
        return safetensors({name: tensor(kind, shape, 0, size)}, bytes(size))

    yield "blocks", page([4, 1, 6])
    yield "no_block", page([3, 1, 6])
    yield "none", page([0, 1, 6])
    yield "heads", page([4, 2, 6])
    yield "flat", page([24])
    yield "name", page([4, 1, 6], name="kv")
    yield "f16", page([2, 1, 6], kind="F16")
    yield "integers", page([2, 1, 6], kind="I16")


def ids_seeds():
    for name, text in {"lines": "1\n2\n", "list": "[1, 2]", "blanks": " 1 2 ", "empty": " ", "open": "[1",
                       "comma": "1,,2", "large": "2147483648", "negative": "-1", "word": "1x"}.items():
        yield name, text.encode()


def adapter_seeds():
    plain = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}
    for name, changes in {
            "plain": {}, "layers": {"layers_to_transform": [3, 15], "layers_pattern": "layers"},
            "layer": {"layers_to_transform": 3}, "rslora": {"use_rslora": True, "bias": "none"},
            "regex": {"target_modules": ".*proj"}, "ranks": {"rank_pattern": {"q_proj": 4}},
            "alphas": {"alpha_pattern": {"q_proj": 4}}, "dora": {"use_dora": True},
            "modules": {"modules_to_save": ["lm_head"]}, "rank": {"r": 1 << 60}, "alpha": {"lora_alpha": None},
            "kind": {"peft_type": "IA3"}}.items():
        yield name, json.dumps(plain | changes).encode()
    yield "list", b"[]"


def share_plan_seeds():
    model = {key: "a" for key in ("name", "architecture", "fingerprint", "adapter", "base_fingerprint",
                                  "tokenizer_fingerprint")}
    estimate = {"mean": 0.1, "low": 0.05, "high": 0.2}
    rest = {key: 0.5 for key in ("cost", "kld_p99", "top1", "nll", "nll_own", "f1", "f1_own")}

    def point(first, end):
        return {"first": first, "end": end, "kld_chosen_by": estimate, "kld": estimate} | rest

    plain = {"format": "kvtools share plan", "version": 1, "from": model, "to": model, "layers": 30,
             "first_different_layer": 15, "group": {"first": 15, "end": 25}, "hidden_layer": 15, "chosen": 1,
             "why": "layers:10", "prompts": 4, "prompts_apart": 4, "prefills_a_prompt": 9.5,
             "sensitivity": [0, 0.1], "frontier": [point(0, 0), point(15, 25)]}
    for name, changes in {
            "plain": {}, "none": {"chosen": 0, "group": {"first": 0, "end": 0}}, "group": {"chosen": 0},
            "chosen": {"chosen": 2}, "backwards": {"frontier": [point(3, 2)]}, "empty": {"frontier": []},
            "layers": {"layers": 1 << 62}, "version": {"version": 2}}.items():
        yield name, b"\0" + json.dumps(plain | changes).encode()
    record = {"groups": [[[0.5, 0.25], 1, 2, 3]], "sensitivity": [0.5], "own": [1, 2, 3]}
    yield "state", b"\1" + json.dumps({"profile": "a pair", "records": {"refined 3": record}}).encode()
    yield "other_state", b"\1" + json.dumps({"profile": "another", "records": {}}).encode()
    yield "no_state", b"\1" + json.dumps({"profile": "a pair", "records": {"refined 3": {}}}).encode()


def main(folder):
    for target, seeds in (("gguf", gguf_seeds()), ("safetensors", safetensors_seeds()),
                          ("tokenizer_json", tokenizer_seeds()), ("chat_template", chat_seeds()),
                          ("npy", npy_seeds()), ("llama_state", llama_seeds()), ("ids", ids_seeds()),
                          ("transformers", transformers_seeds()), ("vllm", vllm_seeds()),
                          ("adapter", adapter_seeds()), ("share_plan", share_plan_seeds())):
        for name, data in seeds:
            assert len(data) < 4096, name
            path = folder / target / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
