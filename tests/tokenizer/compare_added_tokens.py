#!/usr/bin/env python3
"""Compares ids of random tokenizers with Hugging Face's `tokenizers` library: added tokens with any flags, behind any
normalizers.

  compare_added_tokens.py --moe build/moe [--count 150] [--seed 1] [--venv build/venv]

What `moe` refuses is not compared, but most tokenizers must be accepted. Exit status 77 (a skip for CTest) where the
library is missing.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from python_packages import use_python_with  # noqa: E402

CONTENTS = ["<a>", "<b>", " ", "  ", "\t", "a", " a", "a ", "é", "e\u0301", "\u0301", "ﬁ", "fi", "x", "X", "▁", "▁a", "\u00a0",
            "<a> <b>", "b", "ab", "\u200b", "\u00c5", "\u212b", "A\u030a", "\u0345"]
PIECES = ["<a>", "<b>", " ", "  ", "\t", "a", "b", "x", "X", "é", "e\u0301", "\u0301", "ﬁ", "fi", "▁", "\u00a0", "\u00c5",
          "\u212b", "A\u030a", "c", "\u200b", "w"]
MERGES = [["a", "b"], ["Ġ", "a"], ["Ġ", "Ġ"], ["e", "Ì"], ["Ì", "ģ"]]  # in the letters of bytes
CHARACTER_MERGES = [["a", "b"], ["▁", "a"], ["▁", "▁"]]


def byte_letters():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in plain}
    for byte in range(256):
        letters.setdefault(byte, chr(256 + len(letters) - len(plain)))
    return [letters[byte] for byte in range(256)]


def model(of_bytes):
    if of_bytes:
        tokens, merges = byte_letters(), MERGES
    else:
        tokens, merges = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdexX<>é"], CHARACTER_MERGES
    vocabulary = {token: i for i, token in enumerate([*tokens, *("".join(merge) for merge in merges)])}
    return {"type": "BPE", "dropout": None, "unk_token": None if of_bytes else "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": not of_bytes, "byte_fallback": not of_bytes, "ignore_merges": False,
            "vocab": vocabulary, "merges": merges}


def normalizer(rng):
    kind = rng.choice(["NFC", "NFD", "NFKC", "NFKD", "Prepend", "Replace", "Strip", "Regex"])
    if kind == "Prepend":
        return {"type": kind, "prepend": rng.choice(["▁", "x", " "])}
    if kind == "Replace":
        return {"type": kind, "pattern": {"String": rng.choice([" ", "x", "a", "é", "e", "▁"])},
                "content": rng.choice(["", "▁", "a", "x", " "])}
    if kind == "Strip":
        return {"type": kind, "strip_left": rng.random() < .5, "strip_right": rng.random() < .5}
    if kind == "Regex":
        return {"type": "Replace", "pattern": {"Regex": rng.choice([" +", "x|X", "[ab]"])},
                "content": rng.choice(["", "▁", "a", "x", " "])}
    return {"type": kind}


def tokenizer(rng):
    of_bytes = rng.random() < .6
    steps = [normalizer(rng) for _ in range(rng.randint(0, 3))]
    bpe = model(of_bytes)
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": rng.choice(["always", "first", "never"]),
                 "split": rng.random() < .5}
    byte_level = {"type": "ByteLevel", "add_prefix_space": rng.random() < .3, "trim_offsets": True,
                  "use_regex": rng.random() < .7}
    added, following = [], len(bpe["vocab"])
    for content in rng.sample(CONTENTS, rng.randint(1, 5)):
        known = bpe["vocab"].get(content)
        added.append({"id": following if known is None else known, "content": content,
                      "single_word": rng.random() < .15, "lstrip": rng.random() < .4, "rstrip": rng.random() < .4,
                      "normalized": rng.random() < .6, "special": rng.random() < .3})
        following += known is None
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": sorted(added, key=lambda each: each["id"]),
            "normalizer": {"type": "Sequence", "normalizers": steps} if steps else None,
            "pre_tokenizer": byte_level if of_bytes else rng.choice([None, metaspace]), "post_processor": None,
            "decoder": {**byte_level, "use_regex": True} if of_bytes else None, "model": bpe}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--moe", required=True)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--venv", help="Python environment with the library, used where this Python lacks it")
    arguments = parser.parse_args()
    use_python_with(["tokenizers"], arguments.venv, "`make venv`")
    from tokenizers import Tokenizer
    accepted = differences = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        for number in range(arguments.count):
            rng = random.Random(f"{arguments.seed} {number}")
            root = tokenizer(rng)
            path.write_text(json.dumps(root), encoding="utf-8")
            lines = ["".join(rng.choice(PIECES) for _ in range(rng.randint(0, 9))) for _ in range(60)]
            for flag in ([], ["--parse-special"]):
                done = subprocess.run([arguments.moe, "tokenizer", "encode", "--tokenizer", folder, "--lines", *flag],
                                      input="".join(line + "\n" for line in lines).encode(), capture_output=True)
                if done.returncode == 1:
                    break
                library = Tokenizer.from_file(str(path))
                library.encode_special_tokens = not flag
                found = [json.loads(line) for line in done.stdout.splitlines()]
                accepted += not flag
                for line, ids in zip(lines, found, strict=True):
                    expected = library.encode(line).ids
                    if ids == expected:
                        continue
                    differences += 1
                    if differences <= 10:
                        print(f"tokenizer {number}, {flag}: {line!r}\n  found {ids}\n  expected {expected}\n  "
                              f"{json.dumps({key: root[key] for key in ('normalizer', 'pre_tokenizer', 'added_tokens')})}")
    print(f"{accepted} of {arguments.count} tokenizers compared, {differences} differences")
    sys.exit(1 if differences > 0 or accepted < arguments.count / 2 else 0)


if __name__ == "__main__":
    main()
