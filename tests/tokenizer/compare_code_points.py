#!/usr/bin/env python3
"""Compares the ids of every code point with Hugging Face's `tokenizers` library.

  compare_code_points.py --moe build/moe [--venv build/venv]     every code point, alone and between other characters
  compare_code_points.py --write tests/tokenizer/library_pieces.json     makes the sample that test_tokenizer reads

Each pre-tokenizer of pre_tokenizers.py gets a vocabulary whose merges join the bytes of a character with a letter, a mark, a
digit, a blank or a dash beside it, so that its ids show each cut. Exit status 77 (a skip for CTest) where the library is
missing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from python_packages import use_python_with  # noqa: E402

import pre_tokenizers

VERSION = "0.23.3"
BLOCK = 512  # code points of one text


def around(c):
    """The character alone, after a blank and between letters, digits, marks and others."""
    return f"{c} a{c}b 1{c}1 -{c}- \u0301{c}\u0301 {c}{c}\t{c}'s\n"


def vocabulary():
    """The 256 bytes, and each byte together with the characters that around() puts beside it."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letter = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    vocab = {letter[byte]: byte for byte in range(256)}
    merges = []
    first_of_mark, last_of_mark = letter[0xCC], letter[0x81]
    for byte in range(256):
        x = letter[byte]
        for left, right in ((letter[32], x), ("a", x), (x, "b"), ("1", x), (x, "1"), ("-", x), (x, "-"), (x, first_of_mark),
                            (last_of_mark, x), (letter[9], x), (x, "'")):
            if left + right not in vocab:
                vocab[left + right] = len(vocab)
                merges.append(f"{left} {right}")
    return vocab, merges


def tokenizer_json(pre_tokenizer):
    vocab, merges = vocabulary()
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": merges}
    return json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
                       "pre_tokenizer": pre_tokenizer, "post_processor": None, "decoder": None, "model": model})


def moe_encode(program, folder, texts):
    """Ids of each text; none of them has a line end of its own but the last."""
    lines = "".join(text.replace("\n", "\r") + "\n" for text in texts).encode()
    done = subprocess.run([program, "tokenizer", "encode", "--tokenizer", folder, "--lines"], input=lines, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"moe tokenizer encode failed: {done.stderr.decode(errors='replace')}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def differing(program, folder, library, characters, size):
    """The characters whose texts get other ids; texts of `size` characters first, then those of one where they differ."""
    blocks = [characters[at : at + size] for at in range(0, len(characters), size)]
    texts = ["".join(around(c) for c in block).replace("\n", "\r") for block in blocks]
    found = []
    for at in range(0, len(blocks), 256):
        expected = [each.ids for each in library.encode_batch(texts[at : at + 256])]
        for block, ours, theirs in zip(blocks[at:], moe_encode(program, folder, texts[at : at + 256]), expected):
            if ours != theirs:
                found += block if size == 1 else differing(program, folder, library, block, 1) or block[:1]
    return found


def compare(program):
    from tokenizers import Tokenizer, __version__

    if __version__ != VERSION:
        sys.exit(f"the library's version is {__version__}, expected {VERSION}")
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF and c != 0x0A]
    failures = 0
    for name, pre_tokenizer in {**pre_tokenizers.PUBLISHED, **pre_tokenizers.OTHERS}.items():
        with tempfile.TemporaryDirectory() as folder:
            text = tokenizer_json(pre_tokenizer)
            (Path(folder) / "tokenizer.json").write_text(text, encoding="utf-8")
            wrong = differing(program, folder, Tokenizer.from_str(text), characters, BLOCK)
        print(f"{name}: {len(wrong)} of {len(characters)} code points differ", [hex(ord(c)) for c in wrong[:10]], flush=True)
        failures += len(wrong)
    return failures


def sample():
    """A few of each general category, and those that were once cut as another version of Unicode has them."""
    import unicodedata

    by_category = {}
    for c in range(0x110000):
        by_category.setdefault(unicodedata.category(chr(c)), []).append(c)
    chosen = set()
    for category, members in by_category.items():
        if category != "Cs":
            chosen |= {members[0], members[len(members) // 2], members[-1]}
    chosen -= {0x0A}
    chosen |= {0x09, 0x0B, 0x0C, 0x0D, 0x20, 0x85, 0xA0, 0x1680, 0x180E, 0x2000, 0x200A, 0x200B, 0x2028, 0x2029, 0x202F, 0x205F,
               0x3000, 0xFEFF}  # white space and its neighbours
    chosen |= {0xB2, 0xB3, 0xB9, 0xBC, 0xBD, 0xBE, 0x200C, 0x200D, 0x203F, 0x345, 0x24B6}  # word characters
    chosen |= {0x61D, 0x166D, 0x111C9, 0x2E42, 0x2E43, 0x2E5D, 0x11F43}  # punctuation
    chosen |= {0xECE, 0x1DFA, 0x1E4D0, 0x1E4EC, 0x1D2C0, 0x11F02, 0x11F50, 0x1FA77, 0x1FAE8, 0x31350, 0x323AF}  # since 15
    chosen |= {0x2FFC, 0x2EBF0, 0x2EE5D, 0x31EF}  # since 15.1
    chosen |= {0x1C89, 0x897, 0xA7DA, 0x105C0, 0x10D40, 0x10D4E, 0x116D0, 0x11BE0, 0x16D40, 0x1CCF0, 0x1CC00, 0x1E5D0, 0x1FAE9}  # 16
    chosen |= {0x11DE0, 0x16FF4, 0x88F, 0x20C1, 0x1ACF}  # since 17
    chosen |= {0x17F, 0x130, 0x212A, 0x1C5, 0x2B0, 0x4E00, 0x9FFF, 0x3005, 0x3007, 0x3042, 0x30FC, 0xAC00, 0x27, 0x2F}
    return sorted(chosen)


def write(path):
    from tokenizers import Tokenizer, __version__

    texts = [around(chr(c)) for c in sample()]
    cases = []
    for name, pre_tokenizer in {**pre_tokenizers.PUBLISHED, **pre_tokenizers.OTHERS}.items():
        library = Tokenizer.from_str(tokenizer_json(pre_tokenizer)).pre_tokenizer
        # A letter of the library's pieces stands for one byte.
        sizes = [" ".join(str(len(piece)) for piece, _ in library.pre_tokenize_str(text)) for text in texts]
        cases.append({"name": name, "pre_tokenizer": pre_tokenizer, "sizes": sizes})
    root = {"made_by": f"tests/tokenizer/compare_code_points.py --write, tokenizers {__version__}", "texts": texts, "cases": cases}
    Path(path).write_text(json.dumps(root, ensure_ascii=True, indent=0) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--moe")
    parser.add_argument("--venv", help="Python environment with the library, used where this Python lacks it")
    parser.add_argument("--write")
    arguments = parser.parse_args()
    use_python_with(["tokenizers"], arguments.venv, "`make venv`")
    if arguments.write:
        return write(arguments.write)
    sys.exit(1 if compare(arguments.moe) else 0)


if __name__ == "__main__":
    main()
