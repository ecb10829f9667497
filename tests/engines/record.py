"""Records what engines write, for the ordinary tests: record.py FOLDER

A tiny random Llama model, the same in both: llama.state is what llama_state_seq_save_file() of
llama-cpp-python wrote of 20 tokens without flash attention, llama_rows.state with it;
transformers.safetensors is the DynamicCache that transformers filled, f32, saved by
examples/transformers_cache.py. keys.json: what Python's hashlib makes of token ids, as vLLM's
ExampleConnector and SGLang use it; those of record_vllm.py and record_lmcache.py are the engines'
own. versions.txt says which versions these were.
"""

import hashlib
import importlib.metadata
import json
import struct
import sys
import tempfile
from pathlib import Path

import llama_cpp
import numpy as np
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "tests" / "peers")]
import transformers_cache  # noqa: E402
from gguf_model import write_gguf  # noqa: E402

CONFIG = LlamaConfig(vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                     num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)
IDS = [(7 * i * i + 3) % 96 for i in range(20)]


def llama_state(model, path, flash):
    kind = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_threads, params.flash_attn_type = 64, 1, kind
    context = llama_cpp.llama_init_from_model(model, params)
    ids = (llama_cpp.llama_token * len(IDS))(*IDS)
    assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(ids, len(IDS))) == 0
    assert llama_cpp.llama_state_seq_save_file(context, str(path).encode(), 0, ids, len(IDS)) > 0
    llama_cpp.llama_free(context)


def keys():
    ids = [(i * 2654435761 >> 7) % 150000 for i in range(600)]
    pages, before = [], b""
    for begin in range(0, len(ids) - 63, 64):
        part = ids[begin:begin + 64]
        before = hashlib.sha256(before + struct.pack(f"<{len(part)}I", *part)).digest()
        pages.append(before.hex())
    return {"ids": ids, "vllm": [hashlib.md5(np.array(ids[:512], np.int64).tobytes()).hexdigest()], "hicache": pages}


def main():
    folder = Path(sys.argv[1])
    torch.manual_seed(7)
    model = LlamaForCausalLM(CONFIG).eval()
    with torch.no_grad():
        # As initialised, keys would be so small that rounding is all there is.
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.mul_(8)
    cache = DynamicCache()
    ids = torch.tensor([IDS])
    with torch.no_grad():
        model(ids, past_key_values=cache)
    transformers_cache.save(folder / "transformers.safetensors", cache, ids)
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "tiny.gguf"
        weights = {name: (weight.numpy(), None) for name, weight in model.state_dict().items()}
        write_gguf(path, CONFIG, weights, vocabulary=False)
        llama = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params())
        for name, flash in (("llama.state", False), ("llama_rows.state", True)):
            llama_state(llama, folder / name, flash)
    (folder / "keys.json").write_text(json.dumps(keys()) + "\n")
    packages = ("llama-cpp-python", "transformers", "torch", "safetensors")
    (folder / "versions.txt").write_text("Made by tests/engines/record.py with\n" + "".join(
        f"{name} {importlib.metadata.version(name)}\n" for name in packages))


main()
