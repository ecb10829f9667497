"""Records what vLLM's own functions make, for the ordinary tests: record_vllm.py FOLDER

In the environment of setup.sh; no processor runs what is recorded of the file tier, but the classes
that name its files and lay out its pages do it here, on tensors of a processor's memory:

  vllm_keys.json   hashes of blocks, of both algorithms, without and with PYTHONHASHSEED
  vllm_tier/       the store of the file tier for a random cache of two workers; of one config.json
  vllm_tier.safetensors   the same cache as kvconvert has it for transformers
"""

import json
import os
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file
from vllm.distributed.kv_transfer.kv_connector.v1.offloading.worker import OffloadingConnectorWorker
from vllm.utils.hashing import sha256, sha256_cbor
from vllm.v1.core import kv_cache_utils
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.kv_offload.base import make_offload_key
from vllm.v1.kv_offload.config import (
    OffloadingCacheConfig,
    OffloadingConfig,
    OffloadingGroupConfig,
    OffloadingModelConfig,
    OffloadingParallelConfig,
)
from vllm.v1.kv_offload.file_mapper import FileMapper

LAYERS, HEADS, DIM, BLOCK, TOKENS = 3, 2, 16, 16, 40  # pages that fill no whole row
NAMES = [f"model.layers.{layer}.self_attn.attn" for layer in range(LAYERS)]
IDS = [(7 * i * i + 3) % 96 for i in range(TOKENS)]
ROW = 4096  # of the shared region: a multiple of a page of memory


def chain(algorithm, ids, block):
    kv_cache_utils.init_none_hash(algorithm)
    out, before = [], None
    for begin in range(0, len(ids) - block + 1, block):
        before = kv_cache_utils.hash_block_tokens(algorithm, before, ids[begin:begin + block], None)
        out.append(before)
    return out


def keys():
    ids = [(i * 2654435761 >> 7) % 150000 for i in range(600)]
    out = {"ids": ids}
    for seed in (None, "0"):
        os.environ.pop("PYTHONHASHSEED", None)
        if seed is not None:
            os.environ["PYTHONHASHSEED"] = seed
        for name, algorithm in (("vllm-blocks", sha256), ("vllm-cbor", sha256_cbor)):
            out[f"{name} {seed or ''}".strip()] = [h.hex() for h in chain(algorithm, ids, 16)]
    os.environ.pop("PYTHONHASHSEED", None)
    return out


def pages_of(keys, values, blocks):
    """The pages that a worker moves for each block, in its order: what it registers of its tensors
    [block][head][token][K, then V], as the connector asks vLLM to lay them out."""
    heads = keys[0].shape[1]
    spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=heads, head_size=DIM, dtype=torch.bfloat16)
    config = KVCacheConfig(num_blocks=blocks, kv_cache_tensors=[],
                           kv_cache_groups=[KVCacheGroupSpec(layer_names=NAMES, kv_cache_spec=spec)])
    tensors = {}
    for name, k, v in zip(NAMES, keys, values):
        rows = torch.cat([k, v], dim=-1)[:blocks * BLOCK].view(blocks, BLOCK, heads, 2 * DIM)
        tensors[name] = rows.permute(0, 2, 1, 3).contiguous()
    parallel = types.SimpleNamespace(
        tensor_parallel_size=1, prefill_context_parallel_size=1, decode_context_parallel_size=1, world_size=1,
        cp_kv_cache_interleave_size=1, rank=0)
    model = types.SimpleNamespace(get_total_num_kv_heads=lambda: heads)
    seen = []
    offload = types.SimpleNamespace(replicated_layout=False, get_worker=seen.append,
                                    config=types.SimpleNamespace(canonical_layout=False))
    worker = OffloadingConnectorWorker(
        offload, types.SimpleNamespace(parallel_config=parallel, model_config=model), config)
    worker.register_kv_caches(tensors)
    return [b"".join(one.tensor[block].numpy().tobytes() for one in seen[0].tensors) for block in range(blocks)]


def tier(folder, keys, values, tp):
    config = OffloadingConfig(
        groups=(OffloadingGroupConfig(BLOCK, tuple(NAMES), 0),), worker_kv_bytes_per_block=1,
        enable_kv_cache_events=False, extra_config={}, engine_id="",
        model=OffloadingModelConfig("org/tiny", "bfloat16"),
        cache=OffloadingCacheConfig(tokens_per_hash=BLOCK, blocks_per_chunk=1),
        parallel=OffloadingParallelConfig(
            rank=0, world_size=tp, tp_size=tp, pp_size=1, pcp_size=1, dcp_size=1, data_parallel_index=0,
            data_parallel_size=1, data_parallel_rank_local=None, is_parallelism_agnostic=False))
    mapper = FileMapper.from_offloading_spec(
        str(folder), types.SimpleNamespace(config=config), blocks_per_file=1, parallel_agnostic=True)
    hashes = chain(sha256, IDS, BLOCK)
    part = HEADS // tp
    workers = [pages_of([k[:, rank * part:(rank + 1) * part] for k in keys],
                        [v[:, rank * part:(rank + 1) * part] for v in values], len(hashes))
               for rank in range(tp)]
    for block, block_hash in enumerate(hashes if tp > 1 else []):
        row = b"".join(pages[block] for pages in workers)
        path = Path(mapper.get_file_name(make_offload_key(block_hash, 0)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row + bytes(-len(row) % ROW))
    path = Path(mapper.get_config_file_path())
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        json.dump(mapper.get_run_config(), file, indent=2, sort_keys=True)


def main():
    folder = Path(sys.argv[1])
    (folder / "vllm_keys.json").write_text(json.dumps(keys()) + "\n")
    torch.manual_seed(7)
    keys_of = [torch.randn(TOKENS, HEADS, DIM).bfloat16() for _ in range(LAYERS)]
    values_of = [torch.randn(TOKENS, HEADS, DIM).bfloat16() for _ in range(LAYERS)]
    for tp in (1, 2):
        tier(folder / "vllm_tier", [k.view(torch.int16) for k in keys_of], [v.view(torch.int16) for v in values_of], tp)
    tensors = {"input_ids": torch.tensor([IDS])}
    for layer, (k, v) in enumerate(zip(keys_of, values_of)):
        tensors[f"keys.{layer}"] = k.transpose(0, 1)[None].contiguous()
        tensors[f"values.{layer}"] = v.transpose(0, 1)[None].contiguous()
    save_file(tensors, folder / "vllm_tier.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
