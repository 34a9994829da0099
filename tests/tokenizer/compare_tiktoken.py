#!/usr/bin/env python3
"""Compares `moe tokenizer import` with the library `tiktoken`, id by id.

  compare_tiktoken.py --moe build/moe --shared ../shared [--venv build/peers-venv]

GPT-2's vocabulary, written in tiktoken's form, under the expressions of GPT-2, cl100k and o200k. Texts: the validation
files, random strings of all code points, runs of one character. Exit status 77 (a skip for CTest) where the library or
the data is missing.
"""

import argparse
import base64
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from python_packages import skip, use_python_with  # noqa: E402
from zst_files import read_zst  # noqa: E402

EXPRESSIONS = {
    "gpt-2": r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
    "llama-bpe": r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
                 r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s""",
    "gpt-4o": "|".join([
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""\p{N}{1,3}""", r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""", r"""\s*[\r\n]+""", r"""\s+(?!\S)""", r"""\s+"""]),
}


def ranks_of(folder):
    """GPT-2's tokens in the order of their merges, as bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in printable}
    letters.update({chr(256 + n): byte for n, byte in enumerate(b for b in range(256) if b not in printable)})
    vocabulary = json.loads(read_zst(folder / "vocab.json.zst"))
    return {bytes(letters[c] for c in token): rank for token, rank in vocabulary.items() if token != "<|endoftext|>"}


def texts_of(shared):
    source = random.Random(3)
    texts = []
    for _ in range(4000):
        most = source.choice([0x80, 0x250, 0x3100, 0xFFFF, 0x10FFFF])
        points = (source.choice([32, 32, 39, source.randrange(1, most)]) for _ in range(source.randrange(50)))
        texts.append("".join(chr(p) for p in points if not 0xD800 <= p <= 0xDFFF and p != 10))
    texts += [c * count for c in "a =-_0\t" for count in range(1, 100)]
    for file in sorted((shared / "data/text").glob("*/valid.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            texts += [part for part in json.loads(line)["text"].split("\n") if part]
    return [text for text in texts if "\n" not in text]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moe", required=True)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--venv")
    options = parser.parse_args()
    use_python_with(["tiktoken"], options.venv, "`make peers-venv`")
    folder = options.shared / "data/tokenizers/gpt2"
    if not folder.is_dir():
        skip(f"{folder} is missing")
    import tiktoken

    ranks, texts = ranks_of(folder), texts_of(options.shared)
    failed = False
    with tempfile.TemporaryDirectory(prefix="moe-tiktoken-test-") as name:
        file = Path(name) / "gpt2.tiktoken"
        file.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()))
        for words, expression in EXPRESSIONS.items():
            out = Path(name) / words
            subprocess.run([options.moe, "tokenizer", "import", file, "--words", words, "--special",
                            "<|endoftext|>=50256", "--out", out], check=True, capture_output=True)
            run = subprocess.run([options.moe, "tokenizer", "encode", "--tokenizer", out, "--lines"], check=True,
                                 input="".join(text + "\n" for text in texts).encode(), capture_output=True)
            ours = [json.loads(line) for line in run.stdout.splitlines()]
            library = tiktoken.Encoding(words, pat_str=expression, mergeable_ranks=ranks,
                                        special_tokens={"<|endoftext|>": 50256})
            wrong = [text for text, ids in zip(texts, ours, strict=True) if ids != library.encode_ordinary(text)]
            print(f"{words}: {len(wrong)} of {len(texts)} texts differ" + (f", first {wrong[0]!r}" if wrong else ""))
            failed |= bool(wrong)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
