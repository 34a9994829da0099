#!/usr/bin/env python3
"""Compares the ids of texts under the normalizers NFC, NFD, NFKC and NFKD with Hugging Face's `tokenizers` library.

  compare_normal_forms.py --moe build/moe [--shared ../shared] [--venv build/venv]

Texts: every code point alone and between letters and marks; random text with many combining marks; the files of
shared/data/text; added tokens that are looked for before and after the normalizer. Exit status 77 (a skip for CTest) where
the library is missing.
"""

import argparse
import json
import random
import sys
import tempfile
import unicodedata
from pathlib import Path

from compare_code_points import VERSION, moe_encode, tokenizer_json, use_python_with

from pre_tokenizers import QWEN2, split, steps

BLOCK = 256
FORMS = {name: {"type": name} for name in ("NFC", "NFD", "NFKC", "NFKD")}
FORMS["NFD, then NFKC"] = {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "NFKC"}]}
# The second and the third are found in normalized text, the others before it.
ADDED = ("<caf\u00e9>", "<re\u0301sume\u0301>", "\ufb01n", "\u212bng")


def files_of(form):
    root = json.loads(tokenizer_json(steps(split(QWEN2))))
    root["normalizer"] = FORMS[form]
    first = len(root["model"]["vocab"])
    for i, content in enumerate(ADDED):
        root["added_tokens"].append({"id": first + i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                                     "normalized": i in (1, 2), "special": False})
    return json.dumps(root)


def around(c):
    return f"{c}|a{c}b|e\u0301{c}\u0323\u0301|\u1100{c}\u11a8|\uac00{c}"


def random_texts(count):
    pick = random.Random(5)
    marks = [chr(c) for c in [*range(0x300, 0x370), *range(0x591, 0x5C8), *range(0x610, 0x61B), *range(0x64B, 0x660),
                              *range(0x1AB0, 0x1ABF), *range(0x1DC0, 0x1E00), *range(0x20D0, 0x20F1), *range(0x302A, 0x3030),
                              *range(0x1D165, 0x1D16A), *range(0x16FF0, 0x16FF2), *range(0x8D3, 0x900)]]
    jamo = [chr(c) for c in range(0x1100, 0x1200)]

    def character():
        kind = pick.random()
        if kind < 0.45:
            return pick.choice(marks)
        if kind < 0.6:
            return pick.choice(jamo)
        if kind < 0.7:
            return chr(pick.randrange(0xAC00, 0xD7A4))
        if kind < 0.85:
            return chr(pick.randrange(0x20, 0x250))
        code = pick.randrange(0x250, 0x110000 if kind > 0.97 else 0x20000)
        return "\u4e2d" if 0xD800 <= code <= 0xDFFF else chr(code)

    return ["".join(character() for _ in range(pick.randrange(1, 120))).replace("\n", "") for _ in range(count)]


def spelled():
    texts = []
    for content in ADDED:
        for text in (content, f"x{content}y", f"{content}\u0301", f"e\u0301{content}\u0323", f"{content}{content}"):
            texts += [text, text.replace("\u00e9", "e\u0301"), text.replace("e\u0301", "\u00e9"), text.replace("\ufb01", "fi"),
                      text.replace("\u212b", "\u00c5"), text.replace("\u212b", "A\u030a")]
    return texts


def files_below(shared):
    """Every document, in normal form D too: in C, hardly any text of the world changes."""
    paths = sorted(Path(shared, "data", "text").rglob("*.jsonl"))
    texts = [json.loads(line)["text"] for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [text.replace("\n", "\r") for text in texts]
    return texts + [unicodedata.normalize("NFD", text) for text in texts]


def compare(program, library, folder, texts):
    wrong = []
    for at in range(0, len(texts), BLOCK):
        some = [text.replace("\n", "\r") for text in texts[at : at + BLOCK]]
        for text, ours, theirs in zip(some, moe_encode(program, folder, some), library.encode_batch(some)):
            if ours != theirs.ids:
                wrong.append(text)
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--moe", required=True)
    parser.add_argument("--shared")
    parser.add_argument("--venv", help="Python environment with the library, used where this Python lacks it")
    arguments = parser.parse_args()
    use_python_with(["tokenizers"], arguments.venv, "`make venv`")
    from tokenizers import Tokenizer, __version__

    if __version__ != VERSION:
        sys.exit(f"the library's version is {__version__}, expected {VERSION}")
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF and c != 0x0A]
    groups = {
        "code points": ["".join(around(c) for c in characters[at : at + 64]) for at in range(0, len(characters), 64)],
        "random texts": random_texts(20000),
        "added tokens": spelled(),
        "files": files_below(arguments.shared) if arguments.shared else [],
    }
    failures = 0
    for form in FORMS:
        with tempfile.TemporaryDirectory() as folder:
            text = files_of(form)
            (Path(folder) / "tokenizer.json").write_text(text, encoding="utf-8")
            library = Tokenizer.from_str(text)
            for name, texts in groups.items():
                wrong = compare(arguments.moe, library, folder, texts)
                shown = [ascii(each)[:300] for each in wrong[:3]]
                print(f"{form}: {len(wrong)} of {len(texts)} {name} differ", *shown, flush=True)
                failures += len(wrong)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
