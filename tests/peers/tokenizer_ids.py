"""Compares our token ids with Hugging Face's: tokenizer_ids.py TOKENIZE SMOLLM2_GGUF DATA_DIR.

The embedded model's vocabulary, read from the GGUF file and from a tokenizer.json made of it, and
vocabularies trained here with the pre-tokenizers of Llama 3 and Qwen 2 and with SentencePiece, on
all texts of DATA_DIR (skipped where it is absent) and on hostile Unicode.
"""

import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import gguf
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def our_ids(tokenize, path, texts, mode="special"):
    # "special": Hugging Face takes spelled-out special tokens as such by default.
    data = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    out = subprocess.run([tokenize, path, *([mode] if mode else [])], input=data,
                         stdout=subprocess.PIPE, check=True).stdout
    lists, at = [], 0
    while at < len(out):
        (count,) = struct.unpack_from("<I", out, at)
        lists.append(list(struct.unpack_from(f"<{count}i", out, at + 4)))
        at += 4 + 4 * count
    return lists


def strings(value):
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def read_texts(data):
    texts = [pathlib.Path(__file__).parent.parent.joinpath("data/hostile.txt").read_bytes()]
    texts += texts[0].split(b"\n")
    texts += [b" x", b"x", b"  x", b"a <s> b</s>c<s>", b"<s> x", b"\xe2\x96\x81x \xe2\x96\x81", b"'\xc5\xbf 'S 'LL"]
    for path in sorted(data.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            texts += [text.encode() for text in strings(json.loads(line))]
    return texts


def smollm2(path):
    """The GGUF file's vocabulary in Hugging Face's own tokenizer."""
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)])
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, types) if kind == gguf.TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in special])
    return tokenizer


def trained(texts, pattern, normalizer):
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=4000, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def compare(name, theirs, ours, texts):
    tokens = 0
    for text, a, b in zip(texts, theirs, ours, strict=True):
        tokens += len(a)
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            print(f"{name}: {text[:80]!r}: token {at}: {a[at:at + 8]} but ours {b[at:at + 8]}")
            return False
    print(f"{name}: {len(texts)} texts, {tokens} tokens, all alike")
    return True


def scored_gguf(path, processor):
    """The SentencePiece model as llama.cpp's converter writes it."""
    ids = range(processor.get_piece_size())
    kinds = gguf.TokenType
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([processor.id_to_piece(i) for i in ids])
    writer.add_token_scores([processor.get_score(i) for i in ids])
    writer.add_token_types([
        kinds.UNKNOWN if processor.is_unknown(i) else kinds.CONTROL if processor.is_control(i)
        else kinds.BYTE if processor.is_byte(i) else kinds.NORMAL for i in ids])
    writer.add_unk_token_id(processor.unk_id())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def converted(processor, **steps):
    """The SentencePiece model as tokenizer.json has it: its merges in order of their wholes' ids."""
    ids = range(processor.get_piece_size())
    vocab = {processor.id_to_piece(i): i for i in ids}
    merges = []
    for piece, i in vocab.items():
        if processor.is_byte(i) or processor.is_control(i) or processor.is_unknown(i):
            continue
        splits = [(piece[:k], piece[k:]) for k in range(1, len(piece))]
        splits = [s for s in splits if s[0] in vocab and s[1] in vocab]
        merges += [(processor.get_score(i), s) for s in sorted(splits, key=lambda s: (vocab[s[0]], vocab[s[1]]))]
    merges.sort(key=lambda m: -m[0])
    tokenizer = Tokenizer(models.BPE(vocab, [m[1] for m in merges], unk_token="<unk>",
                                     fuse_unk=True, byte_fallback=True))
    for name, step in steps.items():
        setattr(tokenizer, name, step)
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<unk>", "<s>", "</s>")])
    return tokenizer


def check_sentencepiece(folder, corpus, texts, decoded, tokenize, check):
    prefix = folder / "sp"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([t for t in corpus if t.strip()]), model_prefix=prefix,
        vocab_size=2000, hard_vocab_limit=False,  # fewer, where there are only the few texts of ours
        model_type="bpe", byte_fallback=True, character_coverage=0.999,
        normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2)
    processor = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    # SentencePiece itself takes no NUL, and U+2581 spelled out is a space to it.
    whole = [t for t in decoded if "\0" not in t]
    encoded = [t.encode() for t in whole]
    theirs = [processor.encode(t) for t in whole]
    good = compare("sentencepiece", theirs, our_ids(tokenize, f"{prefix}.model", encoded), encoded)
    scored_gguf(f"{prefix}.gguf", processor)
    good &= compare("llama.gguf", theirs,
                    our_ids(tokenize, f"{prefix}.gguf", encoded, mode=None), encoded)
    good &= check("llama2", converted(processor, normalizer=normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])))
    good &= check("gemma", converted(
        processor, normalizer=normalizers.Replace(" ", "\u2581"),
        pre_tokenizer=pre_tokenizers.Split(" ", "merged_with_previous")))
    for scheme in ("always", "first", "never"):
        for split in (True, False):
            good &= check(f"metaspace-{scheme}-{split}", converted(
                processor, pre_tokenizer=pre_tokenizers.Metaspace("\u2581", scheme, split)))
    return good


def main(tokenize, model, data):
    texts = read_texts(data)
    if len(texts) < 100:
        print("skipped in part: the shared texts are not there")
    decoded = [t.decode(errors="replace") for t in texts]
    corpus = decoded[:4000]
    good = True
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)

        def check(name, tokenizer, path=None):
            theirs = [e.ids for e in tokenizer.encode_batch(decoded, add_special_tokens=False)]
            if path is None:
                path = folder / f"{name}.json"
                tokenizer.save(str(path))
            return compare(name, theirs, our_ids(tokenize, path, texts), texts)

        reference = smollm2(model)
        good &= check("smollm2.gguf", reference, model)
        good &= check("smollm2", reference)
        good &= check("llama3", trained(corpus, LLAMA3, None))
        good &= check("qwen2", trained(corpus, QWEN2, normalizers.NFC()))

        good &= check_sentencepiece(folder, corpus, texts, decoded, tokenize, check)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]) / "text"))
