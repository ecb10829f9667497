"""Records what LMCache's own functions make, for the ordinary tests: record_lmcache.py FOLDER

In the environment of setup.sh, behind record_vllm.py, whose cache it takes. No engine runs; the
functions that hash, name and describe chunks do.

  lmcache_keys.json   hashes of chunks, of LMCache within vLLM and of its server
  lmcache_fs/         the fs:// store of two workers, with the headers of chunks
  lmcache_gds/        that of the GDS backend, of one worker, the first chunk
"""

import json
import os
import sys
import types
from pathlib import Path

os.environ["PYTHONHASHSEED"] = "0"  # as its documentation wants it
import torch  # noqa: E402
from lmcache.utils import CacheEngineKey  # noqa: E402
from lmcache.v1 import protocol  # noqa: E402
from lmcache.v1.memory_management import MemoryFormat  # noqa: E402
from lmcache.v1.multiprocess.token_hasher import TokenHasher  # noqa: E402
from lmcache.v1.storage_backend.connector.fs_connector import FSConnector  # noqa: E402
from lmcache.v1.storage_backend.gds_backend import GdsBackend, pack_metadata  # noqa: E402
from lmcache.v1.token_database import ChunkedTokenDatabase  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

CHUNK = 16


def chain(ids, chunk):
    config = types.SimpleNamespace(pre_caching_hash_algorithm="sha256_cbor", chunk_size=chunk, remote_url=None,
                                   enable_pd=False)
    database = ChunkedTokenDatabase(config, None)
    out, before = [], database._get_init_hash()
    for begin in range(0, len(ids) - chunk + 1, chunk):
        before = database._hash_tokens(ids[begin:begin + chunk], before)
        out.append(before)
    return out


def main():
    folder = Path(sys.argv[1])
    ids = json.loads((folder / "vllm_keys.json").read_text())["ids"]
    hasher = TokenHasher(chunk_size=256)
    mp, before = [], hasher.none_hash
    for begin in range(0, len(ids) - 255, 256):
        before = hasher.hash_func((before, tuple(ids[begin:begin + 256]), None))
        mp.append(before.hex())
    keys = {"lmcache": [f"{h:x}" for h in chain(ids, 256)], "lmcache 16": [f"{h:x}" for h in chain(ids, 16)],
            "lmcache-mp": mp}
    (folder / "lmcache_keys.json").write_text(json.dumps(keys) + "\n")

    cache = load_file(folder / "vllm_tier.safetensors")
    ids = cache["input_ids"][0].tolist()
    layers = len([name for name in cache if name.startswith("keys.")])
    # KV_2LTD: [2][layers][tokens][heads * dim], which both stores keep.
    rows = torch.stack([torch.stack([cache[f"{kind}.{layer}"][0].transpose(0, 1) for layer in range(layers)])
                        for kind in ("keys", "values")])
    protocol.init_remote_metadata_info(1)
    for number, chunk_hash in enumerate(chain(ids, CHUNK)):
        part = rows[:, :, number * CHUNK:(number + 1) * CHUNK]
        for workers in (1, 2):
            heads = part.shape[3] // workers
            for worker in range(workers):
                mine = part[:, :, :, worker * heads:(worker + 1) * heads].flatten(3).contiguous()
                data = mine.view(torch.int16).numpy().tobytes()
                key = CacheEngineKey("org/tiny", workers, worker, chunk_hash, torch.bfloat16)
                if workers == 2:
                    store = types.SimpleNamespace(base_paths=[folder / "lmcache_fs"])
                    name = FSConnector._get_file_name(store, key)
                    header = protocol.RemoteMetadata(len(data), [mine.shape], [mine.dtype], MemoryFormat.KV_2LTD)
                    path = folder / "lmcache_fs" / name
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(header.serialize() + data)
                elif number == 0:
                    backend = types.SimpleNamespace(gds_path=str(folder / "lmcache_gds"),
                                                    data_suffix=".kvcache.safetensors")
                    path = Path(GdsBackend._key_to_path(backend, key)[0])
                    path.parent.mkdir(parents=True, exist_ok=True)
                    metadata = pack_metadata(mine, fmt=MemoryFormat.KV_2LTD, lmcache_version="1")
                    path.write_bytes(metadata + data)
                    Path(f"{path}.metadata").write_bytes(metadata)


main()
