"""Prefill and decoding of the embedded model beside transformers and llama.cpp, in turns.

  prefill.py PREFILL_BENCH GGUF [--tokens 512,2048,8192] [--threads 1,2] [--rounds 3]

One process an engine, all fed the same requests one after another, so that whatever else the
machine does hits all alike. Medians of the rounds; exits 1 when a goal of the project is missed:
1.5 times transformers (the faster of f32 and bf16), and llama.cpp's speed. llama.cpp runs the file
as it is, and as its own program makes it of 8 bits, which it multiplies faster.

  prefill.py --engine hf-f32|hf-bf16|llama|llama-q8_0 GGUF THREADS   (what it starts for the peers)
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONTEXT = 8192
DECODED = 16
MACS_PER_TOKEN = 30 * (576 * 960 + 576 * 576 + 3 * 576 * 1536)  # linear layers of SmolLM2-135M
ATTENTION_MACS = 30 * 9 * 2 * 64  # a token and a key


def macs(tokens):
    return tokens * MACS_PER_TOKEN + ATTENTION_MACS * tokens * (tokens + 1) / 2


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def transformers_engine(gguf, dtype, threads):
    import torch
    import transformers
    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=dtype, attn_implementation="sdpa").eval()

    def prefill(ids, _room):
        with torch.inference_mode():
            return model(torch.tensor([ids]), use_cache=True, logits_to_keep=1).past_key_values

    def decode(cache):
        with torch.inference_mode():
            for _ in range(DECODED):
                model(torch.tensor([[13]]), past_key_values=cache, use_cache=True)

    return prefill, decode


def llama_engine(gguf, threads, as_q8_0):
    import llama_cpp
    with tempfile.TemporaryDirectory() as folder:
        file = str(gguf)
        if as_q8_0:
            file = f"{folder}/q8_0.gguf"
            params = llama_cpp.llama_model_quantize_default_params()
            params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
            params.allow_requantize = True
            if llama_cpp.llama_model_quantize(str(gguf).encode(), file.encode(), params) != 0:
                raise SystemExit("prefill.py: llama.cpp cannot quantise the model")
        model = llama_model(file, threads)

    def prefill(ids, _room):
        model.reset()
        model.eval(ids)

    def decode(_cache):
        for _ in range(DECODED):
            model.eval([13])

    return prefill, decode


def llama_model(file, threads):
    import llama_cpp
    return llama_cpp.Llama(file, n_ctx=CONTEXT + DECODED, n_batch=2048, n_threads=threads,
                           n_threads_batch=threads, verbose=False,
                           flash_attn=os.environ.get("LLAMA_FLASH", "1") == "1")


def serve(engine, gguf, threads):
    start = time.perf_counter()
    if engine.startswith("llama"):
        prefill, decode = llama_engine(gguf, threads, engine == "llama-q8_0")
    else:
        prefill, decode = transformers_engine(
            gguf, "float32" if engine == "hf-f32" else "bfloat16", threads)
    print(json.dumps({"load_seconds": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        what, tokens = line.split()
        ids = [(i * 7919 + 13) % 49152 for i in range(int(tokens))]
        if what == "decode":
            cache = prefill(ids, DECODED)
        cpu, start = cpu_seconds(), time.perf_counter()
        if what == "decode":
            decode(cache)
        else:
            prefill(ids, 0)
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds() - cpu}), flush=True)


class Engine:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.hello = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"prefill.py: {self.process.args} ended")
        return json.loads(line)

    def ask(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.read()


def measure(engines, requests, rounds):
    """Seconds by (engine, request)."""
    seconds = {}
    for name in engines:
        engines[name].ask("prefill 64")
    for _ in range(rounds):
        for request in requests:
            for name, engine in engines.items():
                seconds.setdefault((name, request), []).append(engine.ask(request)["seconds"])
    return seconds


def report(options, threads, engines, ours, peak):
    requests = [f"prefill {n}" for n in options.tokens] + [f"decode {options.tokens[0]}"]
    seconds = measure(engines, requests, options.rounds)
    names = list(engines)
    good = True
    for request in requests:
        what, tokens = request.split()
        count = int(tokens) if what == "prefill" else DECODED
        rate = {name: count / statistics.median(seconds[name, request]) for name in names}
        spread = max(max(seconds[name, request]) / min(seconds[name, request]) for name in names)
        cells = " | ".join(f"{rate[name]:.0f}" for name in names)
        transformers = rate[ours] / max(rate[name] for name in names if name.startswith("hf"))
        llamas = [rate[name] for name in names if name.startswith("llama")]
        llama = rate[ours] / max(llamas) if llamas else None
        share = f"{rate[ours] / count * macs(count) / peak:.0%}" if what == "prefill" else "-"
        print(f"| {threads} | {request} | {cells} | {transformers:.2f}x | "
              f"{f'{llama:.2f}x' if llama else '-'} | {share} | {spread:.2f} |", flush=True)
        if what == "prefill":
            good = good and transformers >= 1.5 and (llama is None or llama >= 1)
    return good


def compare(options):
    here = [sys.executable, __file__, "--engine"]
    good = True
    for threads in options.threads:
        ours = Engine([options.bench, options.gguf, "auto", str(threads)])
        name = f"kvtools {ours.hello['dtype']}"
        engines = {name: ours,
                   "kvtools f32": Engine([options.bench, options.gguf, "f32", str(threads)])}
        for peer in options.peers:
            engines[peer] = Engine([*here, peer, options.gguf, str(threads)])
        peaks = ours.ask("peak")
        peak = peaks["on_registers"] or peaks["macs_per_second"]
        if threads == options.threads[0]:
            print("Tokens a second, medians; ratio to the faster transformers and the faster "
                  "llama.cpp; share of the peak (AMX on registers; without it, a product of 1024^3); "
                  "slowest to fastest run.\n")
            print(f"| threads | | {' | '.join(engines)} | to hf | to llama | of peak | spread |")
            print("|---" * (7 + len(engines) - 1) + "|")
        good = report(options, threads, engines, name, peak) and good
        print(f"\n{threads} thread(s): {peak / 1e9:.0f} G multiply-adds/s at most, "
              f"{peaks['macs_per_second'] / 1e9:.0f} in LibTorch's product of 1024^3 in "
              f"{ours.hello['dtype']}; loading the model takes " +
              ", ".join(f"{n} {e.hello['load_seconds']:.2f} s" for n, e in engines.items()) + "\n")
        for engine in engines.values():
            engine.process.stdin.close()
            engine.process.wait()
    return 0 if good else 1


def main():
    if len(sys.argv) == 5 and sys.argv[1] == "--engine":
        return serve(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    numbers = lambda text: [int(n) for n in text.split(",")]
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("gguf")
    parser.add_argument("--tokens", type=numbers, default=[512, 2048, 8192])
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=lambda text: text.split(","),
                        default=["hf-f32", "hf-bf16", "llama", "llama-q8_0"])
    return compare(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
