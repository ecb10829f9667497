"""vllm_serve.py MODEL_FOLDER STORE IDS...: asks vLLM about documents whose caches kvconvert put into
STORE, and says how long the first token took, with them and behind vLLM's own prefill.

Each of IDS holds the token ids of a document's whole blocks, as `kvinfo --tokens` prints them.
"""

import os
import sys
import time
from pathlib import Path

QUESTION = "\n\nQuestion: What is this text about? Answer: It is about"

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


def main():
    from transformers import AutoTokenizer
    from vllm import LLM, SamplingParams
    from vllm.config import KVTransferConfig

    folder, store, documents = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    question = AutoTokenizer.from_pretrained(folder).encode(QUESTION, add_special_tokens=False)
    llm = LLM(folder, enforce_eager=True, dtype="bfloat16", enable_prefix_caching=False, max_model_len=8192,
              kv_transfer_config=KVTransferConfig(kv_connector="ExampleConnector", kv_role="kv_both",
                                                  kv_connector_extra_config={"shared_storage_path": str(store)}))

    def ask(ids, tokens):
        begin = time.time()
        parameters = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
        result = llm.generate({"prompt_token_ids": ids + question}, parameters, use_tqdm=False)[0]
        return time.time() - begin, result

    ask(question, 1)  # the first request of all pays for what vLLM sets up
    print(f"{'document':<24} {'tokens':>6} {'computed':>8} {'from cache, s':>13} {'own prefill, s':>14}  answer")
    for name in documents:
        ids = [int(line) for line in Path(name).read_text().split()]
        cached, result = ask(ids, 1)
        computed = len(ids) + len(question) - (result.num_cached_tokens or 0)
        answer = ask(ids, 16)[1].outputs[0].text
        # Without the store vLLM fills it: what it writes goes again.
        away = store.with_name("away")
        store.rename(away)
        store.mkdir()
        own, _ = ask(ids, 1)
        for path in sorted(store.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        store.rmdir()
        away.rename(store)
        print(f"{Path(name).stem:<24} {len(ids) + len(question):>6} {computed:>8} {cached:>13.2f} {own:>14.2f} "
              f" {answer!r}", flush=True)


if __name__ == "__main__":
    main()
