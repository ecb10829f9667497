"""Our forward pass against Hugging Face transformers, in f32.

  model_reference.py PROBE [--gguf FILE --text FILE.jsonl]

Tiny random models of every family and RoPE scaling, saved as Hugging Face folders, Llama 3's
scaling from GGUF files, and the embedded model from its GGUF file: logits of all rows, each layer's input, un-rotated keys and
values, and greedy continuations of real prompts. Prints the largest errors relative to the
largest reference value; exits 1 above the limits.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers

from gguf_model import write_gguf

LIMIT = {"logits": 1e-3, "hidden": 1e-3, "keys": 1e-4, "values": 1e-4}
TINY = dict(vocab_size=320, hidden_size=64, intermediate_size=160, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512)


def rope(kind, **values):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=10000.0, **values))


FAMILIES = {
    "llama2": ("Llama", dict(num_key_value_heads=4)),
    "llama2-bias": ("Llama", dict(attention_bias=True)),
    "llama2-linear": ("Llama", rope("linear", factor=4.0)),
    "llama3": ("Llama", dict(rope_parameters=dict(
        rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
        high_freq_factor=4.0, original_max_position_embeddings=64))),
    "llama-yarn": ("Llama", rope("yarn", factor=4.0, original_max_position_embeddings=64)),
    "llama-yarn-whole": ("Llama", rope("yarn", factor=8.0, truncate=False, beta_fast=16.0,
                                       beta_slow=2.0, original_max_position_embeddings=32)),
    "llama-yarn-mscale": ("Llama", rope("yarn", factor=4.0, mscale=0.7, mscale_all_dim=0.4,
                                        original_max_position_embeddings=64)),
    "smollm": ("Llama", dict(tie_word_embeddings=True, hidden_size=72, num_attention_heads=9,
                             num_key_value_heads=3)),
    "mistral": ("Mistral", dict(sliding_window=24, head_dim=32)),
    "qwen2": ("Qwen2", dict(tie_word_embeddings=True)),
    "qwen2-window": ("Qwen2", dict(use_sliding_window=True, sliding_window=40,
                                   max_window_layers=1)),
    "qwen3": ("Qwen3", dict(head_dim=32)),
    # Seven layers, so that the pattern of six shows; a query scale that is not the head's.
    "gemma3": ("Gemma3Text", dict(num_hidden_layers=7, num_key_value_heads=1, head_dim=32,
                                  sliding_window=24, query_pre_attn_scalar=20)),
    "gemma3-mixed": ("Gemma3Text", dict(
        num_hidden_layers=4, head_dim=32, sliding_window=16, attention_bias=True,
        layer_types=["full_attention", "sliding_attention"] * 2, rope_parameters=dict(
            full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6),
            sliding_attention=dict(rope_type="default", rope_theta=2e4)))),
}


def class_of(family, kind):
    """transformers' Config or ForCausalLM of a family."""
    stem = family.removesuffix("Text") if kind != "Config" else family
    return getattr(transformers, stem + kind)


def randomised(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:  # whose weights begin where they change nothing: at 1, or at 0
                weight.copy_(weight + 0.3 * torch.randn(weight.shape, generator=generator))
            else:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    return model.float().eval()


def reference(model, ids):
    """Logits, and of each layer the input, the keys before RoPE, the values."""
    seen = {}

    def keep(key):
        def hook(_module, _inputs, output):
            if output.dim() == 4 and output.shape[1] != len(ids):  # Gemma norms with heads first
                output = output.transpose(1, 2)
            seen[key] = output.detach().reshape(len(ids), -1).numpy()
        return hook

    hooks = []
    for i, layer in enumerate(model.model.layers):
        attention = layer.self_attn
        hooks.append(getattr(attention, "k_norm", attention.k_proj)
                     .register_forward_hook(keep(("keys", i))))
        hooks.append(attention.v_proj.register_forward_hook(keep(("values", i))))
    with torch.no_grad():
        result = model(torch.tensor([ids]), output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    wanted = [("logits", result.logits[0].numpy())]
    for i in range(len(model.model.layers)):
        wanted.append(("hidden", result.hidden_states[i][0].numpy()))
        wanted.append(("keys", seen["keys", i]))
        wanted.append(("values", seen["values", i]))
    return wanted


def errors(probe, path, ids, wanted, ops, block, scratch):
    ids_file, out_file = scratch / "ids", scratch / "out"
    ids_file.write_text(" ".join(map(str, ids)) + "\n")
    subprocess.run([probe, path, "f32", ops, str(block), ids_file, out_file], check=True)
    got = np.fromfile(out_file, dtype=np.float32)
    assert got.size == sum(values.size for _, values in wanted), "size of the dump"
    worst, start = dict.fromkeys(LIMIT, 0.0), 0
    for kind, values in wanted:
        part = got[start:start + values.size].reshape(values.shape)
        start += values.size
        error = float(np.abs(part - values).max() / np.abs(values).max())
        worst[kind] = max(worst[kind], error if np.isfinite(part).all() else np.inf)
    return worst


class Report:
    def __init__(self):
        self.count = self.failed = 0

    def add(self, name, worst):
        bad = not all(worst[kind] <= limit for kind, limit in LIMIT.items())
        figures = "  ".join(f"{kind} {value:.1e}" for kind, value in worst.items())
        print(f"{'FAIL' if bad else 'ok  '} {name:36s} {figures}", flush=True)
        self.check(not bad)

    def check(self, good):
        self.count += 1
        self.failed += not good


def tiny_models(probe, scratch, report):
    for seed, (name, (family, changes)) in enumerate(FAMILIES.items()):
        config = class_of(family, "Config")(**{**TINY, **changes})
        config._attn_implementation = "eager"
        model = randomised(class_of(family, "ForCausalLM")(config), seed)
        folder = scratch / name
        model.save_pretrained(folder, max_shard_size="100KB" if seed % 2 else "5GB")
        ids = np.random.default_rng(seed).integers(0, TINY["vocab_size"], 150).tolist()
        wanted = reference(model, ids)
        for ops, block in (("fused", 512), ("fused", 37), ("plain", 64)):
            report.add(f"{name} {ops}/{block}",
                       errors(probe, folder, ids, wanted, ops, block, scratch))


def llama3_divisors(config):
    """What llama.cpp's converter makes of the configuration's scaling: the divisors of the pairs'
    frequencies, in f32."""
    scaling = config.rope_parameters
    dim = config.hidden_size // config.num_attention_heads
    frequencies = 1.0 / scaling["rope_theta"] ** (torch.arange(0, dim, 2).float() / dim)
    context, low, high = (scaling[key] for key in (
        "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"))
    divisors = []
    for wavelength in (2 * np.pi / frequencies).tolist():
        smooth = np.clip((context / wavelength - low) / (high - low), 0, 1)
        divisors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(divisors, dtype=np.float32)


def rope_as_tensor(probe, scratch, report):
    """Llama 3's scaling where llama.cpp keeps it, at its own original context and at a small one."""
    for seed, (context, theta) in enumerate(((64, 500000.0), (8192, 500000.0), (100, 10000.0))):
        config = transformers.LlamaConfig(**{**TINY, "rope_parameters": dict(
            rope_type="llama3", rope_theta=theta, factor=32.0, low_freq_factor=1.0,
            high_freq_factor=4.0, original_max_position_embeddings=context)})
        config._attn_implementation = "eager"
        model = randomised(transformers.LlamaForCausalLM(config), seed)
        path = scratch / f"llama3-{context}.gguf"
        weights = {name: (weight.detach().numpy(), gguf.GGMLQuantizationType.F32)
                   for name, weight in model.named_parameters()}
        write_gguf(path, config, weights, [("rope_freqs.weight", llama3_divisors(config))])
        ids = np.random.default_rng(seed).integers(0, TINY["vocab_size"], 150).tolist()
        report.add(f"rope_freqs.weight of context {context}",
                   errors(probe, path, ids, reference(model, ids), "fused", 64, scratch))


def embedded_model(probe, gguf, text, scratch, report):
    gguf = Path(gguf)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    documents = [json.loads(line) for line in open(text, encoding="utf-8")]
    long = tokenizer(documents[0]["prompt"])["input_ids"][:1000]
    report.add("smollm2 fused/1024", errors(probe, gguf, long, reference(model, long), "fused",
                                            1024, scratch))
    report.add("smollm2 plain/256", errors(probe, gguf, long, reference(model, long), "plain",
                                           256, scratch))

    prompts = [tokenizer(document["prompt"][:900])["input_ids"][:160] for document in documents[1:21]]
    (scratch / "ids").write_text("".join(" ".join(map(str, p)) + "\n" for p in prompts))
    subprocess.run([probe, gguf, "f32", "fused", "greedy:64", scratch / "ids", scratch / "out"],
                   check=True)
    got = [list(map(int, line.split())) for line in (scratch / "out").read_text().splitlines()]
    same = 0
    for length in {len(prompt) for prompt in prompts}:  # together: none needs padding
        batch = [i for i, prompt in enumerate(prompts) if len(prompt) == length]
        with torch.no_grad():
            theirs = model.generate(torch.tensor([prompts[i] for i in batch]), max_new_tokens=64,
                                    min_new_tokens=64, do_sample=False, eos_token_id=None,
                                    pad_token_id=0)
        same += sum(row[length:].tolist() == got[i] for i, row in zip(batch, theirs, strict=True))
    print(f"{'ok  ' if same == len(prompts) else 'FAIL'} greedy text of 64 tokens: "
          f"{same} of {len(prompts)} prompts identical")
    report.check(same == len(prompts))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("probe")
    parser.add_argument("--gguf")
    parser.add_argument("--text")
    options = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        tiny_models(options.probe, Path(folder), report)
        rope_as_tensor(options.probe, Path(folder), report)
        if options.gguf and options.text:
            embedded_model(options.probe, options.gguf, options.text, Path(folder), report)
    print(f"{report.count} comparisons, {report.failed} failed "
          f"(torch {torch.__version__}, transformers {transformers.__version__})")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
