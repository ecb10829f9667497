"""LoRA adapters against Hugging Face PEFT, in f32.

  adapters.py PROBE KVTUNE [--gguf FILE]

Adapters that PEFT saves, over tiny random models of several families, as our checkpoints merge
them; and one that kvtune writes for the embedded model, as PEFT loads it. Logits of all rows must
agree to 1e-3 of the largest. Exits 1 otherwise.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import peft
import torch
import transformers

from model_reference import FAMILIES, TINY, randomised

LIMIT = 1e-3
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = [
    ("smollm", dict(r=4, lora_alpha=8, target_modules=ALL)),
    ("qwen2", dict(r=3, lora_alpha=5, target_modules=["q_proj", "v_proj"], use_rslora=True)),
    ("qwen3", dict(r=4, lora_alpha=4, target_modules=ALL, layers_to_transform=[1, 2])),
    ("mistral", dict(r=4, lora_alpha=8, target_modules=r".*layers\.0\..*(q|down)_proj")),
    ("llama2", dict(r=4, lora_alpha=8, target_modules=["o_proj", "up_proj"],
                    rank_pattern={"up_proj": 2})),
]


def probe(program, model, ids, vocab, folder):
    """Logits of all rows, as our forward pass makes them."""
    (folder / "ids").write_text(" ".join(map(str, ids)) + "\n")
    subprocess.run([program, model, "f32", "plain", "64", folder / "ids", folder / "out"], check=True)
    return np.fromfile(folder / "out", np.float32, len(ids) * vocab).reshape(len(ids), vocab)


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float().numpy()


def judge(name, ours, theirs, base):
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    effect = np.abs(base - theirs).max() / np.abs(theirs).max()
    good = error < LIMIT and effect > 10 * LIMIT
    print(f"{name:24} error {error:.2e}, the adapter's effect {effect:.2e} {'' if good else 'BAD'}")
    return good


def saved_by_peft(program, family, options, folder):
    kind, config = FAMILIES[family]
    config = getattr(transformers, f"{kind}Config")(**{**TINY, **config})
    base = randomised(getattr(transformers, f"{kind}ForCausalLM")(config).eval(), 1)
    base.save_pretrained(folder / "base")
    ids = [i * 37 % config.vocab_size for i in range(60)]
    before = logits_of(base, ids)
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.2, generator=torch.Generator().manual_seed(len(name)))
    model.eval().save_pretrained(folder / "adapter")
    ours = probe(program, f"{folder}/base+{folder}/adapter", ids, config.vocab_size, folder)
    return judge(f"PEFT's {family}", ours, logits_of(model, ids), before)


def saved_by_kvtune(program, kvtune, gguf, folder):
    lines = [dict(prompt=f"Question: what is {i} and {i}?\nAnswer:", completion=f" {2 * i}")
             for i in range(8)]
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    subprocess.run([kvtune, "-m", gguf, "--compute", "f32", "--steps", "4", "--lr", "0.01",
                    "--warmup", "0", "--layers", "3:5,28:30", "-q", "-o", folder / "tuned",
                    folder / "train.jsonl"], check=True)
    path = Path(gguf)
    base = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    ids = [1, 4093, 198] + [i * 7919 % 49000 for i in range(40)]
    before = logits_of(base, ids)
    model = peft.PeftModel.from_pretrained(base, folder / "tuned").eval()
    ours = probe(program, f"{gguf}+{folder}/tuned", ids, base.config.vocab_size, folder)
    return judge("kvtune's of the model", ours, logits_of(model, ids), before)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("probe")
    parser.add_argument("kvtune")
    parser.add_argument("--gguf")
    arguments = parser.parse_args()
    good = True
    for family, options in CASES:
        with tempfile.TemporaryDirectory() as folder:
            good &= saved_by_peft(arguments.probe, family, options, Path(folder))
    if arguments.gguf:
        with tempfile.TemporaryDirectory() as folder:
            good &= saved_by_kvtune(arguments.probe, arguments.kvtune, arguments.gguf, Path(folder))
    sys.exit(not good)


if __name__ == "__main__":
    main()
