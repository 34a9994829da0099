#!/usr/bin/env python3
"""Encodes text with gigatoken, the fastest encoder that we know, and with `moe bench tokenizer`, in turns.

    build/peers-venv/bin/python bench/peers/gigatoken_rates.py --moe build/moe --tokenizer DIR FILE...

DIR has a tokenizer.json, or GPT-2's vocab.json and merges.txt, either also as .zst; FILEs are .txt, or .jsonl with a field
"text", plain or .zst. Both programs work on the same documents on one thread. Prints the rates in MB (10^6 bytes of text) for
each second of CPU time, which other programs on the machine change less than seconds of the clock: the best of --repeats
turns, and their ratio.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tokenizer_rates import MIB, sample


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moe", default="build/moe")
    parser.add_argument("--tokenizer", required=True, type=Path)
    parser.add_argument("--mib", type=int, default=60, help="most text to encode")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("files", nargs="+")
    return parser.parse_args()


def unpack(source, folder):
    """The tokenizer's files, not compressed."""
    for path in source.iterdir():
        if path.suffix == ".zst":
            (folder / path.stem).write_bytes(subprocess.run(["zstd", "-dc", path], check=True, stdout=subprocess.PIPE).stdout)
        elif path.name.endswith((".json", ".txt")):
            (folder / path.name).write_bytes(path.read_bytes())


def whole_json(folder):
    """A tokenizer.json for gigatoken; of GPT-2's pair of files one with their vocabulary, merges and pre-tokenizer."""
    path = folder / "tokenizer.json"
    if path.exists():
        return path
    merges = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
             "vocab": json.loads((folder / "vocab.json").read_text(encoding="utf-8")),
             "merges": [line for line in merges if line and not line.startswith("#version")]}
    root = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": level,
            "post_processor": None, "decoder": level, "model": model}
    whole = folder / "whole" / "tokenizer.json"
    whole.parent.mkdir()
    whole.write_text(json.dumps(root), encoding="utf-8")
    return whole


def main():
    import gigatoken

    options = parse()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        unpack(options.tokenizer, folder)
        peer = gigatoken.Tokenizer(str(whole_json(folder)))
        texts, size = sample(options.files, options.mib * MIB)
        texts = [text.encode() for text in texts]
        command = [options.moe, "bench", "tokenizer", "--json", "--tokenizer", str(folder), "--mib", str(options.mib), "--threads",
                   "1", "--repeats", "1", *options.files]
        ours, theirs, counts = [], [], {}
        for _ in range(options.repeats):
            start = time.process_time()
            ids = peer.encode_batch(texts, parallel=False)
            theirs.append(1e-6 * size / (time.process_time() - start))
            counts["gigatoken"] = sum(map(len, ids))
            result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["encoding"]
            ours.append(result["mb_per_cpu_s_one_thread"])
            counts["moe"] = result["tokens"]
            if result["bytes"] != size:
                sys.exit(f"gigatoken_rates: moe took {result['bytes']} bytes of text, expected {size}")
    print(f"encoding {1e-6 * size:.1f} MB of {len(texts)} documents; MB for a second of CPU time, one thread")
    for name, rates in (("moe", ours), ("gigatoken", theirs)):
        print(f"  {name:<10}{max(rates):8.1f}   of {' '.join(f'{rate:.1f}' for rate in rates)}; {counts[name]} ids")
    print(f"  moe has {max(ours) / max(theirs):.2f} of gigatoken's rate")
    if counts["moe"] != counts["gigatoken"]:
        print("  the numbers of ids differ: gigatoken takes special tokens that are spelled in a text for tokens")


if __name__ == "__main__":
    main()
