#!/usr/bin/env python3
"""blend_prompts.py MUSIQUE.jsonl COUNT CHUNKS CHARACTERS: prompts for kveval, a line each.

Each passage of an item is cut into pieces of about CHARACTERS (at the end of a sentence where one is
near). Of an item's pieces the CHUNKS that a retriever would find are taken, in the text's order: those
with a right answer in them, then those that share most words with the question; a piece that has a fifth of
its runs of 12 words in common with those before it is not taken, for passages overlap. Contexts repeat
from item to item: an item is left out when a quarter of its runs stood in one before it. The first chunk
begins a conversation as SmolLM2's template has it; kveval --special --question ends it:
'\\nQuestion: {}\\nAnswer in a few words.<|im_end|>\\n<|im_start|>assistant\\n'.
"""
import json
import re
import sys

HEAD = """<|im_start|>system
Answer the question from the texts given.<|im_end|>
<|im_start|>user
"""


def pieces(text, size):
    while text:
        cut = len(text)
        if cut > size * 3 // 2:
            cut = text.rfind(" . ", 0, size)
            if cut < 0:
                cut = text.rfind(". ", 0, size)
            cut = cut + 2 if cut > size // 2 else text.rfind(" ", 0, size)
        piece, text = text[:cut].strip(), text[cut:].strip()
        if len(piece) > size // 2:
            yield piece


def words(text):
    return re.findall(r"\w+", text.lower())


def runs(text):
    all_words = words(text)
    return {tuple(all_words[i : i + 12]) for i in range(len(all_words) - 11)}


def main(path, count, chunks, size):
    seen = set()
    for line in open(path, encoding="utf-8"):
        item = json.loads(line)
        found = [p for ctx in item["ctxs"] for p in pieces(ctx["text"], size)]
        asked = {w for w in words(item["question"]) if len(w) > 3}
        answers = [" ".join(words(a)) for a in item["answers"]]

        def rank(i):
            text = " ".join(words(found[i]))
            return (-any(a in text for a in answers), -len(asked & set(text.split())), i)

        chosen, own = [], set()
        for i in sorted(range(len(found)), key=rank):
            grams = runs(found[i])
            if len(chosen) < chunks and len(grams & own) <= len(grams) // 5:
                chosen.append(i)
                own |= grams
        if len(chosen) < chunks or len(own & seen) > len(own) // 4:
            continue
        seen |= own
        texts = [found[i] + "\n" for i in sorted(chosen)]
        texts[0] = HEAD + texts[0]
        prompt = {"id": str(item["id"]), "chunks": texts}
        prompt |= {"question": item["question"], "answers": item["answers"]}
        print(json.dumps(prompt, ensure_ascii=False))
        count -= 1
        if count == 0:
            return
    sys.exit(f"{path}: {count} prompts too few")


main(sys.argv[1], *map(int, sys.argv[2:]))
