#!/usr/bin/env python3
"""Compares unigram models and SentencePiece's normalizations with the libraries `tokenizers` and `sentencepiece`, id by id.

  compare_unigram.py --moe build/moe --shared ../shared [--venv build/venv]

The models are trained here, on the validation files of shared/data/text: by SentencePiece with each of its normalizations, with
and without byte fallback and with other treatments of blanks, and by the trainer of `tokenizers`. Each of the former is compared as a
tokenizer.model with `sentencepiece`, and as a tokenizer.json with several pre-tokenizers with `tokenizers`. Texts: the lines of the
files, the cases of llama.cpp, random strings of all code points. Besides, every pair of a letter and another character is cut into
graphemes. Exit status 77 (a skip for CTest) where a library or the data is missing.
"""

import argparse
import base64
import io
import json
import random
import struct
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from python_packages import skip, use_python_with  # noqa: E402

from compare_sentencepiece import ours, texts_of  # noqa: E402

MARK = "\u2581"
FIELDS = {0: "varint", 1: 8, 5: 4}


def train(lines, **options):
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=3000, character_coverage=0.98, hard_vocab_limit=False,
        minloglevel=2, num_threads=2, **options)
    return model.getvalue()


def fields_of(message):
    """The fields of a protocol buffer: number and value."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        tag = varint()
        size = varint() if tag & 7 == 2 else FIELDS[tag & 7]
        if size == "varint":
            yield tag >> 3, varint()
        else:
            yield tag >> 3, message[at : at + size]
            at += size


def parts_of(model):
    """The pieces (text, score, kind) and the map of characters of a tokenizer.model."""
    pieces, characters = [], b""
    for number, value in fields_of(model):
        if number == 1:
            piece = dict(fields_of(value))
            pieces.append((piece[1].decode(), struct.unpack("<f", piece[2])[0], piece.get(3, 1)))
        if number == 3:
            characters = dict(fields_of(value)).get(2, b"")
    return pieces, characters


def metaspace(scheme="always", split=True):
    return {"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": split}


PRE_TOKENIZERS = {
    "Metaspace": metaspace(),
    "Metaspace first": metaspace("first"),
    "Metaspace never": metaspace("never"),
    "Metaspace whole": metaspace(split=False),
    "words, Metaspace": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace()]},
    "punctuation, Metaspace whole": {"type": "Sequence", "pretokenizers": [
        {"type": "Punctuation", "behavior": "Isolated"}, metaspace("never", False)]},
    "none": None,
}


def tokenizer_json(pieces, characters, pre_tokenizer, byte_fallback, as_published=True):
    """A tokenizer.json of SentencePiece's pieces, in the form that `transformers` gives it."""
    normalizers = [{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(characters).decode()}] if characters else []
    if as_published:
        normalizers += [{"type": "Strip", "strip_left": False, "strip_right": True},
                        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": MARK}]
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": text, "special": True, "normalized": False, "single_word": False, "lstrip": False,
                          "rstrip": False} for i, (text, _, kind) in enumerate(pieces) if kind in (2, 3)],
        "normalizer": {"type": "Sequence", "normalizers": normalizers}, "pre_tokenizer": pre_tokenizer, "post_processor": None,
        "decoder": metaspace(),
        "model": {"type": "Unigram", "unk_id": next((i for i, piece in enumerate(pieces) if piece[2] == 2), 0),
                  "vocab": [[text, score] for text, score, _ in pieces], "byte_fallback": byte_fallback}})


def lead_bytes():
    """A map of characters that turns every first byte of a character into G: it shows where graphemes of 5 bytes at most end."""
    units, first, leaf = [0] * 2048, 1024, 1536
    units[0] = first << 10
    for byte in range(1, 256):
        place = first ^ byte
        units[place] = ((leaf + byte) ^ place) << 10 | 1 << 8 | byte
        units[leaf + byte] = 1 << 31
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + b"G\0"


def grapheme_texts():
    """Every character behind and before a letter, and random ones of the kinds that join. Carriage returns keep pairs apart."""
    characters = [chr(c) for c in range(1, 0x110000) if not 0xD800 <= c <= 0xDFFF and c != 0x0A]
    texts = []
    for at in range(0, len(characters), 16):
        some = characters[at : at + 16]
        texts += ["\r".join("a" + c for c in some), "\r".join(c + "a" for c in some), "\r".join(c + "\u0301" for c in some)]
    pick = random.Random(3)
    joining = ["a", "\u00e9", "\u00a9", "\u200d", "\u0301", "\u0600", "\u0903", "\u0915", "\u094d", "\u093c", "\u1100", "\u1161", "\u11a8",
               "\uac00", "\uac01", "\r", "\u00ad", "\U0001f1e6", "\U0001f468", "\U0001f3fd", "\u0e33", "\u00ae"]
    return texts + ["".join(pick.choices(joining, k=pick.randrange(1, 9))) for _ in range(20000)]


class Comparison:
    def __init__(self, moe, folder):
        self.moe, self.folder, self.wrong = moe, folder, 0

    def report(self, name, file, texts, expected):
        got = ours(self.moe, file, texts)
        differ = [i for i in range(len(texts)) if got[i] != expected[i]]
        for i in differ[:3]:
            print(f"{name}: {texts[i][:200]!a}\n  library {expected[i][:60]}\n  ours    {got[i][:60]}")
        print(f"{name}: {len(texts) - len(differ)} of {len(texts)} texts equal", flush=True)
        self.wrong += len(differ)

    def with_tokenizers(self, name, text, texts):
        import tokenizers

        (self.folder / "tokenizer.json").write_text(text, encoding="utf-8")
        library = tokenizers.Tokenizer.from_str(text)
        library.encode_special_tokens = True
        expected = [each.ids for each in library.encode_batch(texts, add_special_tokens=False)]
        self.report(name, self.folder / "tokenizer.json", texts, expected)

    def with_sentencepiece(self, name, model, texts):
        import sentencepiece

        (self.folder / "tokenizer.model").write_bytes(model)
        library = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.report(name, self.folder / "tokenizer.model", texts, library.encode(texts))


def trained_by_tokenizers(lines):
    import tokenizers

    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.normalizer = tokenizers.normalizers.NFKC()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(vocab_size=2000, special_tokens=["<unk>", "</s>"], unk_token="<unk>",
                                                 show_progress=False)
    made.train_from_iterator(lines, trainer)
    return made.to_str()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--moe", required=True)
    parser.add_argument("--shared", required=True, type=Path)
    parser.add_argument("--venv")
    arguments = parser.parse_args()
    use_python_with(["tokenizers", "sentencepiece"], arguments.venv, "`make venv`")
    if not (arguments.shared / "data/text").is_dir():
        skip(f"there are no texts in {arguments.shared}/data")
    texts = [text for text in texts_of(arguments.shared) if "\0" not in text]
    texts = [text for i, text in enumerate(texts) if "\n" not in text or i % 7 == 0]
    lines = [text[:400] for text in texts[3000:] if len(text) > 20][:6000]
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(arguments.moe, Path(folder))
        models = {f"{rule}{', bytes' if fallback else ''}": {"normalization_rule_name": rule, "byte_fallback": fallback}
                  for rule in ("nmt_nfkc", "nfkc", "identity") for fallback in (False, True)}
        models["nmt_nfkc, all blanks"] = {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": False}
        models["nmt_nfkc_cf, no prefix"] = {"normalization_rule_name": "nmt_nfkc_cf", "add_dummy_prefix": False}
        for name, options in models.items():
            model = train(lines, model_type="unigram", **options)
            comparison.with_sentencepiece(f"{name}, tokenizer.model", model, texts)
            pieces, characters = parts_of(model)
            for kind, pre_tokenizer in PRE_TOKENIZERS.items():
                text = tokenizer_json(pieces, characters, pre_tokenizer, options.get("byte_fallback", False), kind != "none")
                comparison.with_tokenizers(f"{name}, {kind}", text, texts)
        for rule in ("nmt_nfkc", "identity"):
            model = train(lines, model_type="bpe", normalization_rule_name=rule, byte_fallback=True)
            comparison.with_sentencepiece(f"BPE, {rule}, tokenizer.model", model, texts)
        comparison.with_tokenizers("trained by tokenizers", trained_by_tokenizers(lines), texts)
        graphemes = tokenizer_json([("<unk>", 0.0, 2), ("G", -1.0, 1)], lead_bytes(), None, False, False)
        comparison.with_tokenizers("graphemes", graphemes, grapheme_texts())
        wrong = comparison.wrong
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
