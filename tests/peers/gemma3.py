"""The second model against Hugging Face: gemma3.py PROBE TOKENIZE GGUF DATA [--long]

Token ids of its GGUF vocabulary and of the tokenizer.json that transformers makes of it, on all
texts and on runs of spaces; logits, each layer's input, keys and values past its window; greedy
text. With --long, by hand: 3,000 tokens, and 64 on 20 prompts rather than 16 on four.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers

from model_reference import Report, errors, reference
from tokenizer_ids import compare, our_ids, read_texts


def runs():
    return [(" " * n + "x" + " " * (n // 2) + "\n" * (n % 37) + "\t" * (n % 35) + "y").encode()
            for n in range(90)]


def main(probe, tokenize, gguf, data, long):
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    gguf, text, report = Path(gguf), Path(data) / "text", Report()
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    texts = read_texts(text) + runs()
    decoded = [t.decode(errors="replace") for t in texts]
    theirs = [e.ids for e in tokenizer.backend_tokenizer.encode_batch(decoded, add_special_tokens=False)]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
        for path in (gguf, folder / "tokenizer.json"):
            report.check(compare(path.name, theirs, our_ids(tokenize, path, texts), texts))
        model = transformers.AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32,
            attn_implementation="eager").eval()
        documents = [json.loads(line)["prompt"] for line in open(text / "longchat.jsonl", encoding="utf-8")]
        ids = tokenizer(documents[0])["input_ids"][:3000 if long else 560]
        report.add(f"gemma3 {len(ids)} tokens", errors(
            probe, gguf, ids, reference(model, ids), "fused", 256, folder))
        count, tokens = (20, 64) if long else (4, 16)
        prompts = [tokenizer(prompt[:900])["input_ids"][:160] for prompt in documents[1:1 + count]]
        (folder / "ids").write_text("".join(" ".join(map(str, p)) + "\n" for p in prompts))
        subprocess.run([probe, gguf, "f32", "fused", f"greedy:{tokens}", folder / "ids", folder / "out"],
                       check=True)
        ours = [list(map(int, line.split())) for line in (folder / "out").read_text().splitlines()]
        with torch.no_grad():
            same = sum(model.generate(torch.tensor([p]), max_new_tokens=tokens, min_new_tokens=tokens,
                                      do_sample=False, eos_token_id=None, pad_token_id=0)
                       [0, len(p):].tolist() == mine for p, mine in zip(prompts, ours, strict=True))
        print(f"greedy text of {tokens} tokens: {same} of {count} prompts identical")
        report.check(same == count)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5], "--long" in sys.argv))
