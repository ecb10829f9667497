"""Whether engines take our caches: prove.py ENGINE TOOLS [--prompts N] [--tokens A:B] [--new N]

  transformers, llamacpp   in the peers' environment (make -f Makefile.shortcuts peers)
  vllm                     in that of tests/engines/setup.sh, with --folder, the model's as that made it

For each prompt, a real text of A to B tokens: the engine's own greedy text behind its own prefill,
and behind kvprefill's cache of all tokens but the last, that kvconvert gave it. Where they part, the
gap of the engine's own two best logits there says whether it was a tie. Then the engine's saved cache
comes back through --from and is compared with kvprefill's own (relative L2). Times are to the first
token. Exit status 1 when more than a tenth of the texts part, or an engine took no cache.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
GGUF = ROOT / ".deps" / "models" / "smollm2.gguf"
TEXTS = ROOT.parent / "shared" / "data" / "text" / "longchat.jsonl"


class Tools:
    def __init__(self, folder, work):
        self.folder, self.work = Path(folder), Path(work)

    def run(self, tool, *arguments, **more):
        return subprocess.run([str(self.folder / tool), *map(str, arguments)], check=True, **more)

    def ids_of(self, text):
        """kvprefill's tokens of the text, through a cache of it."""
        path = self.work / "text.kv"
        self.run("kvprefill", "-m", GGUF, "-f", "-o", path, input=text.encode())
        out = self.run("kvinfo", "--tokens", path, capture_output=True).stdout
        return [int(line) for line in out.split()]

    def cache(self, ids, dtype, compute):
        path = self.work / "cache.kv"
        line = json.dumps({"id": "prompt", "tokens": ids})
        self.run("kvprefill", "-m", GGUF, "--compute", compute, "--dtype", dtype, "--jsonl", "-f", "-o", path,
                 input=line.encode())
        return path

    def arrays(self, cache):
        """K and V of all layers, keys without RoPE."""
        folder = self.work / "arrays"
        self.run("kvconvert", "--to", "npy", "--no-rope", "-q", "-f", "-o", folder, cache)
        return [np.load(path) for path in sorted(folder.glob("*_[kv].npy"))]

    def difference(self, ours, theirs):
        """Relative L2 over all layers, of K and of V."""
        a, b = self.arrays(ours), self.arrays(theirs)
        out = []
        for kind in (0, 1):
            pairs = list(zip(a[kind::2], b[kind::2]))
            error = sum(float(((x - y[:len(x)]).astype(np.float64) ** 2).sum()) for x, y in pairs)
            out.append((error / sum(float((x.astype(np.float64) ** 2).sum()) for x, _ in pairs)) ** .5)
        return out


class Transformers:
    dtype, compute = "f32", "f32"

    def __init__(self, options):
        import torch
        from transformers import AutoModelForCausalLM
        sys.path.insert(0, str(ROOT / "examples"))
        import transformers_cache
        self.torch, self.files, self.new = torch, transformers_cache, options.new
        torch.set_num_threads(os.cpu_count())
        self.model = AutoModelForCausalLM.from_pretrained(
            str(GGUF.parent), gguf_file=GGUF.name, dtype=torch.float32).eval()

    def greedy(self, ids, cache):
        torch, out, gaps = self.torch, [], []
        begin, first = time.time(), None
        feed = torch.tensor([ids[cache.get_seq_length():] if cache is not None else ids])
        with torch.no_grad():
            while len(out) < self.new:
                result = self.model(feed, past_key_values=cache, use_cache=True)
                cache = result.past_key_values
                best = torch.topk(result.logits[0, -1], 2)
                out.append(int(best.indices[0]))
                gaps.append(float(best.values[0] - best.values[1]))
                first = first or time.time() - begin
                feed = torch.tensor([out[-1:]])
        return out, gaps, first, cache

    def own(self, ids, work):
        out, gaps, first, cache = self.greedy(ids, None)
        cache.crop(len(ids) - 1 - cache.get_seq_length())  # negative: how many go
        path = work / "own.safetensors"
        self.files.save(path, cache, self.torch.tensor([ids]))
        return out, gaps, first, path

    def given(self, ids, tools, kv):
        path = tools.work / "ours.safetensors"
        tools.run("kvconvert", "--to", "transformers", "-f", "-o", path, kv)
        begin = time.time()
        cache, kept = self.files.load(path)
        assert kept[0].tolist() == ids[:-1]
        load = time.time() - begin
        out, _, first, _ = self.greedy(ids, cache)
        return out, first + load

    def back(self, tools, path, ids):
        kv = tools.work / "back.kv"
        tools.run("kvconvert", "--from", "transformers", "-m", GGUF, "-f", "-o", kv, path)
        return kv


class LlamaCpp:
    dtype, compute = "f32", "f32"

    def __init__(self, options):
        import llama_cpp
        self.api, self.new = llama_cpp, options.new
        llama_cpp.llama_log_set(llama_cpp.llama_log_callback(lambda *_: None), None)
        self.model = llama_cpp.llama_model_load_from_file(
            str(GGUF).encode(), llama_cpp.llama_model_default_params())
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch = 8192, 8192
        params.n_threads = params.n_threads_batch = options.threads
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def feed(self, ids):
        array = (self.api.llama_token * len(ids))(*ids)
        assert self.api.llama_decode(self.context, self.api.llama_batch_get_one(array, len(ids))) == 0

    def clear(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)

    def greedy(self, ids):
        out, gaps, begin, first = [], [], time.time(), None
        while len(out) < self.new:
            self.feed(ids if not out else out[-1:])
            logits = np.ctypeslib.as_array(self.api.llama_get_logits_ith(self.context, -1), (self.vocab,))
            best = np.argpartition(logits, -2)[-2:]
            best = best[np.argsort(logits[best])]
            out.append(int(best[1]))
            gaps.append(float(logits[best[1]] - logits[best[0]]))
            first = first or time.time() - begin
        return out, gaps, first

    def own(self, ids, work):
        self.clear()
        out, gaps, first = self.greedy(ids)
        self.api.llama_memory_seq_rm(self.api.llama_get_memory(self.context), 0, len(ids) - 1, -1)
        path = work / "own.state"
        array = (self.api.llama_token * (len(ids) - 1))(*ids[:-1])
        assert self.api.llama_state_seq_save_file(self.context, str(path).encode(), 0, array, len(ids) - 1)
        return out, gaps, first, path

    def given(self, ids, tools, kv):
        path = tools.work / "ours.state"
        tools.run("kvconvert", "--to", "llamacpp", "-f", "-o", path, kv)
        self.clear()
        begin = time.time()
        kept, count = (self.api.llama_token * len(ids))(), ctypes.c_size_t()
        assert self.api.llama_state_seq_load_file(self.context, str(path).encode(), 0, kept, len(ids),
                                                  ctypes.byref(count)), "llama.cpp refused the state"
        assert list(kept[:count.value]) == ids[:-1]
        load = time.time() - begin
        out, _, first = self.greedy(ids[-1:])
        return out, first + load

    def back(self, tools, path, ids):
        kv = tools.work / "back.kv"
        tools.run("kvconvert", "--from", "llamacpp", "-m", GGUF, "-f", "-o", kv, path)
        return kv


class Vllm:
    """Two stores: its own, which it fills, and the one that kvconvert fills. BF16, blocks of 128; the
    prompt is cut so that all of the cache but what is no whole block counts."""
    dtype, compute = "bf16", "f32"

    def __init__(self, options):
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from vllm import LLM, SamplingParams
        from vllm.config import KVTransferConfig
        self.new, self.params = options.new, SamplingParams
        self.store = Path(tempfile.mkdtemp())
        # What vLLM itself asks to choose its kernels.
        import torch
        self.backend = "amx" if torch.cpu._is_amx_tile_supported() else "cpu"
        self.llm = LLM(options.folder, enforce_eager=True, dtype="bfloat16", enable_prefix_caching=False,
                       max_model_len=8192, kv_transfer_config=KVTransferConfig(
                           kv_connector="ExampleConnector", kv_role="kv_both",
                           kv_connector_extra_config={"shared_storage_path": str(self.store)}))

    def greedy(self, ids):
        def run(tokens, logprobs):
            parameters = self.params(temperature=0, max_tokens=tokens, ignore_eos=True, logprobs=logprobs)
            begin = time.time()
            out = self.llm.generate({"prompt_token_ids": ids}, parameters, use_tqdm=False)[0].outputs[0]
            return out, time.time() - begin
        _, first = run(1, None)
        out, _ = run(self.new, 2)
        return *self.text(out), first

    @staticmethod
    def text(out):
        best = [sorted((entry.logprob for entry in one.values()), reverse=True) for one in out.logprobs]
        return list(out.token_ids), [one[0] - one[1] for one in best]

    def clear(self):
        subprocess.run(["rm", "-rf", *map(str, self.store.iterdir())], check=True)

    def own(self, ids, work):
        """Its own text must not come from its own store: each run begins with an empty one."""
        self.clear()
        parameters = self.params(temperature=0, max_tokens=self.new, ignore_eos=True, logprobs=2)
        begin = time.time()
        self.llm.generate({"prompt_token_ids": ids}, self.params(temperature=0, max_tokens=1), use_tqdm=False)
        first = time.time() - begin
        path = work / "own"
        subprocess.run(["rm", "-rf", path], check=True)
        path.mkdir()
        for folder in self.store.iterdir():
            folder.rename(path / folder.name)
        out = self.llm.generate({"prompt_token_ids": ids}, parameters, use_tqdm=False)[0].outputs[0]
        self.clear()
        return *self.text(out), first, next(path.iterdir())

    def given(self, ids, tools, kv):
        self.clear()
        tools.run("kvconvert", "--to", "vllm", "--backend", self.backend, "-q", "-f", "-o", self.store, kv)
        before = sorted(path.name for path in self.store.iterdir())
        out, _, first = self.greedy(ids)
        # A prompt that finds nothing is stored.
        assert sorted(path.name for path in self.store.iterdir()) == before, "vLLM took no cache"
        return out, first

    def back(self, tools, path, ids):
        kv, listed = tools.work / "back.kv", tools.work / "ids"
        listed.write_text(" ".join(map(str, ids)))
        tools.run("kvconvert", "--from", "vllm", "--backend", self.backend, "-m", GGUF, "--ids", listed, "-f", "-o", kv, path)
        return kv


ENGINES = {"transformers": Transformers, "llamacpp": LlamaCpp, "vllm": Vllm}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("tools")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", default="500:4000")
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder")
    options = parser.parse_args()
    low, high = map(int, options.tokens.split(":"))
    engine = ENGINES[options.engine](options)
    parted, ratios = 0, []
    with tempfile.TemporaryDirectory() as work, open(TEXTS) as lines:
        tools = Tools(options.tools, work)
        text = "\n".join(json.loads(line)["prompt"] for line, _ in zip(lines, range(6)))
        every = tools.ids_of(text[:120000 // 6])
        for number in range(options.prompts):
            size = low + (high - low) * number // max(1, options.prompts - 1)
            begin = number * 131 % max(1, len(every) - size)
            ids = every[begin:begin + size]
            own, gaps, own_first, saved = engine.own(ids, tools.work)
            kv = tools.cache(ids[:-1], engine.dtype, engine.compute)
            ours, first = engine.given(ids, tools, kv)
            keys, values = tools.difference(engine.back(tools, saved, ids), kv)
            same = next((i for i, (a, b) in enumerate(zip(own, ours)) if a != b), len(own))
            parted += same < len(own)
            ratios.append(first / own_first)
            where = "" if same == len(own) else f", parts at {same}, gap {gaps[same]:.3f}"
            print(f"{len(ids)} tokens: {'same' if same == len(own) else 'other'} text{where}; first token "
                  f"{own_first:.2f} s own, {first:.2f} s from ours; back: K {keys:.2%}, V {values:.2%}",
                  flush=True)
    print(f"{options.engine}: {options.prompts - parted} of {options.prompts} texts the same; first token in "
          f"{statistics.median(ratios):.2f} of the time")
    sys.exit(parted * 10 > options.prompts)


if __name__ == "__main__":
    main()
