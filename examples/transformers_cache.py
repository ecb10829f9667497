"""KV caches of kvconvert(1) in Hugging Face transformers.

  kvconvert --to transformers -o report.safetensors report.kv

  cache, input_ids = load("report.safetensors")        # a DynamicCache, and the tokens in it
  model.generate(torch.cat([input_ids, question], 1), past_key_values=cache)

and back, with a cache that generate() or a forward pass has filled:

  save("answer.safetensors", cache, input_ids)
  kvconvert --from transformers -m MODEL answer.safetensors >answer.kv

`input_ids` are those of the whole context; save() keeps as many as the cache holds, for the last
one that was generated is not in it.
"""

from safetensors.torch import load_file, save_file
from transformers import DynamicCache


def load(path, dtype=None):
    tensors = load_file(path)
    cache = DynamicCache()
    for layer in range(sum(name.startswith("keys.") for name in tensors)):
        keys, values = (tensors[f"{name}.{layer}"] for name in ("keys", "values"))
        cache.update(keys.to(dtype or keys.dtype), values.to(dtype or values.dtype), layer)
    return cache, tensors.get("input_ids")


def save(path, cache, input_ids=None):
    tensors = {}
    for number, layer in enumerate(cache.layers):
        tensors[f"keys.{number}"] = layer.keys.contiguous()
        tensors[f"values.{number}"] = layer.values.contiguous()
    if input_ids is not None:
        tensors["input_ids"] = input_ids[:, : cache.get_seq_length()].long().contiguous()
    save_file(tensors, path, metadata={"format": "pt"})
