"""model_folder.py GGUF FOLDER: the model as a Hugging Face folder in bf16, for engines that read no
GGUF. In the peers' environment. By hand, as transformers saves no model that it read from GGUF."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

gguf, folder = Path(sys.argv[1]), Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.bfloat16)
weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()
           if not (name == "lm_head.weight" and model.config.tie_word_embeddings)}
save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
config = model.config.to_dict()
config.pop("quantization_config", None)
config.update(architectures=[type(model).__name__], dtype="bfloat16")
(folder / "config.json").write_text(json.dumps(config, default=str) + "\n")
AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(folder)
