"""Our chat prompts beside transformers' apply_chat_template, and added tokens beside tokenizers:
chat_prompts.py TOKENIZE.

The templates say what the models' documentation says of their prompts, in the ways that published
templates say it. The vocabularies are trained here, on this file and the hostile text.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tokenizer_ids import LLAMA3, our_ids, trained

SYSTEM_FIRST = """{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] %}\
{% set turns = messages[1:] %}{% else %}{% set turns = messages %}{% endif %}"""
CHATML = """{% for message in messages %}DEFAULT{{ '<|im_start|>' + message['role'] + '\\n' + \
message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
SYSTEM_DEFAULT = """{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"""
# With a branch for tools before, whose system turn is put together from parts.
TOOLS = """{%- if tools %}{{- '<|im_start|>system\\n' }}{{- tools }}{{- '<|im_end|>\\n' }}{%- endif %}"""

TEMPLATES = {
    "chatml": CHATML.replace("DEFAULT", ""),
    "chatml-default": CHATML.replace("DEFAULT", SYSTEM_DEFAULT),
    "chatml-tools": TOOLS + CHATML.replace("DEFAULT", SYSTEM_DEFAULT),
    "llama2": SYSTEM_FIRST + """{% for message in turns %}\
{% if loop.index0 == 0 and system_message is defined %}\
{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}\
{% else %}{% set content = message['content'] %}{% endif %}\
{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}\
{% endfor %}""",
    "llama3": """{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] \
+ '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' %}\
{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}""",
    "llama3.1": """{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}
{%- set turns = messages[1:] %}{%- else %}{%- set system_message = "" %}{%- set turns = messages %}{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}{{- system_message }}{{- "<|eot_id|>" }}
{%- for message in turns %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + \
message['content'] | trim + '<|eot_id|>' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}""",
    "mistral-v0.1": """{{ bos_token }}{% for message in messages %}\
{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}\
{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}""",
    "mistral-v0.2": SYSTEM_FIRST + """{{- bos_token }}{%- for message in turns %}
{%- if message["role"] == "user" %}{%- if loop.first and system_message is defined %}
{{- " [INST] " + system_message + "\\n\\n" + message["content"] + " [/INST]" }}
{%- else %}{{- " [INST] " + message["content"] + " [/INST]" }}{%- endif %}
{%- elif message["role"] == "assistant" %}{{- " " + message["content"] + eos_token }}{%- endif %}{%- endfor %}""",
    "mistral-v0.3": SYSTEM_FIRST + """{{- bos_token }}{%- for message in turns %}
{%- if message["role"] == "user" %}{%- if loop.last and system_message is defined %}
{{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
{%- else %}{{- "[INST] " + message["content"] + "[/INST]" }}{%- endif %}
{%- elif message["role"] == "assistant" %}{{- " " + message["content"] | trim + eos_token }}{%- endif %}{%- endfor %}""",
    "gemma": """{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}\
{%- set first = messages[0]['content'] + '\n\n' -%}{%- set turns = messages[1:] -%}\
{%- else -%}{%- set first = '' -%}{%- set turns = messages -%}{%- endif -%}\
{%- for message in turns -%}{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}\
{{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') }}{{ message['content'] | trim }}\
{{ '<end_of_turn>\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}""",
}

USER = {"role": "user", "content": "Wer hat unterschrieben?\n\n1. É 👍  twice"}
ODD = {"role": "user", "content": "  spaces, a tab\t and a line below \n"}
SAID = {"role": "assistant", "content": " Nobody did. \n"}
SYSTEM = {"role": "system", "content": " You answer in one word.\n"}
CONVERSATIONS = [[USER], [ODD], [USER, SAID, ODD], [USER, SAID, ODD, SAID, USER]]
CONVERSATIONS += [[SYSTEM, *talk] for talk in CONVERSATIONS]

BYTE_SPECIALS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>",
                 "<|start_header_id|>", "<|end_header_id|>", "<bos>", "<eos>", "<start_of_turn>",
                 "<end_of_turn>"]


def sentencepiece_like(texts):
    """As Llama 2's: no splits, spaces shown, bytes for what the vocabulary lacks."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=1500, show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]))
    # The bytes are pieces, not added tokens.
    file = json.loads(tokenizer.to_str())
    file["added_tokens"] = [t for t in file["added_tokens"] if t["id"] < 3]
    return Tokenizer.from_str(json.dumps(file))


def differs(name, theirs, ours, what):
    if theirs != ours:
        at = next((i for i, (x, y) in enumerate(zip(theirs, ours)) if x != y), -1)
        print(f"FAIL {name}: {what!r}: token {at}: {theirs[at:at + 8]} but ours {ours[at:at + 8]}")
    return theirs != ours


def check_templates(tokenize, folder, byte_level, pieces):
    failed = 0
    for name, jinja in TEMPLATES.items():
        bos, eos = ("<|begin_of_text|>", "<|eot_id|>") if name.startswith("llama3") else (
            "<bos>", "<eos>") if name == "gemma" else ("<s>", "</s>")
        backend = byte_level if name.startswith(("chatml", "llama3", "gemma")) else pieces
        wrapped = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos)
        wrapped.chat_template = jinja
        wrapped.save_pretrained(folder / name)
        talks = [talk for talk in CONVERSATIONS if name != "mistral-v0.1" or talk[0] is not SYSTEM]
        theirs = [wrapped.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
                  for talk in talks]
        lines = ["".join(f"{m['role']}\0{m['content']}\0" for m in talk).encode() for talk in talks]
        ours = our_ids(tokenize, folder / name, lines, "chat")
        bad = sum(differs(name, a, b, talk) for a, b, talk in zip(theirs, ours, talks, strict=True))
        print(f"{'FAIL' if bad else 'ok  '} {name}: {len(talks)} conversations, "
              f"{sum(map(len, theirs))} tokens, {bad} differ")
        failed += bad
    # What has no place for a system prompt says so.
    line = b"system\0x\0user\0y\0"
    refused = subprocess.run([tokenize, folder / "mistral-v0.1", "chat"], capture_output=True,
                             input=len(line).to_bytes(4, "little") + line, check=False)
    if refused.returncode != 2 or b"system prompt" not in refused.stderr:
        print(f"FAIL mistral-v0.1 takes a system prompt: {refused}")
        failed += 1
    return failed


ADDED = ["<tool>", "e\u0301tude", "caf\u00e9", "foo", "oof oo", "foofoo", "  ", "\u2581x", "Z"]
TEXTS = ["<tool>", "a<tool>b", "a <tool> b", "<tool> <tool>  <tool>", "e\u0301tude \u00e9tude", "cafe\u0301s",
         "foo foofoo foofoofoo", "foo oof oo oofoo", "x  y   z    ", "x \u2581x", "\u2581 x", "Z",
         "aZ Z Zb \u00e9Z Z\u3002 Z\u2014Z \u2460Z Z\u00a0Z\u3000 \u2028Z", "  Z  \tZ\n", "", " ", "</s>Z<s> Z", "<s>x Z"]


def check_added(tokenize, folder, byte_level, pieces):
    """Added tokens with each flag, under each kind of normalizer."""
    kinds = {"bytes": (byte_level, None), "nfc": (byte_level, normalizers.NFC()),
             "prepend": (pieces, pieces.normalizer), "metaspace": (pieces, None)}
    failed = count = 0
    for name, (backend, normalizer) in kinds.items():
        for flags in range(16):
            tokenizer = Tokenizer.from_str(backend.to_str())
            if normalizer or name == "metaspace":
                tokenizer.normalizer = normalizer
            if name == "metaspace":
                tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", "first", True)
            tokenizer.add_tokens([
                AddedToken(text, normalized=bool(flags & 1) != (text == "foo"), lstrip=bool(flags & 2),
                           rstrip=bool(flags & 4), single_word=bool(flags & 8)) for text in ADDED])
            path = folder / f"{name}-{flags}.json"
            tokenizer.save(str(path))
            theirs = [e.ids for e in tokenizer.encode_batch(TEXTS, add_special_tokens=False)]
            ours = our_ids(tokenize, path, [text.encode() for text in TEXTS])
            failed += sum(differs(path.stem, a, b, text)
                          for a, b, text in zip(theirs, ours, TEXTS, strict=True))
            count += len(TEXTS)
    print(f"{'FAIL' if failed else 'ok  '} added tokens: {count} texts, {failed} differ")
    return failed


def main(tokenize):
    here = pathlib.Path(__file__)
    texts = [here.read_text(encoding="utf-8"),
             (here.parent.parent / "data/hostile.txt").read_text(encoding="utf-8", errors="replace")]
    byte_level = trained(texts, LLAMA3, None)
    byte_level.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in BYTE_SPECIALS])
    pieces = sentencepiece_like(texts)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        failed = check_templates(tokenize, folder, byte_level, pieces)
        failed += check_added(tokenize, folder, byte_level, pieces)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
