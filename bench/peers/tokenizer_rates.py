#!/usr/bin/env python3
"""Encodes text with `tokenizers` and tiktoken, and trains a vocabulary with `tokenizers`: the peers of `moe bench tokenizer`.

    build/peers-venv/bin/python bench/peers/tokenizer_rates.py --moe build/moe --tokenizer DIR FILE...

DIR has a tokenizer.json whose pre-tokenizer is one Split and ByteLevel, as `moe tokenizer train` writes it; FILEs are .txt,
or .jsonl with a field "text", plain or .zst. Every program works on the same documents, one process after the other, and
the best of --repeats counts. Prints a table of MB/s (10^6 bytes of text) on one thread and on --threads, the seconds and
memory of training, and the ratios; all programs must give the same number of ids.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

MIB = 1 << 20


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moe", default="build/moe")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--mib", type=int, default=64, help="most text to encode")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--vocab-size", type=int, default=8192, help="of the trained vocabulary; 0: no training")
    parser.add_argument("--part", choices=("encode", "tiktoken", "train"), help=argparse.SUPPRESS)
    parser.add_argument("files", nargs="+")
    return parser.parse_args()


def documents(files):
    for file in files:
        opened = subprocess.run(["zstd", "-dc", file], check=True, stdout=subprocess.PIPE).stdout if file.endswith(".zst") else open(file, "rb").read()
        if ".jsonl" not in file:
            yield opened.decode()
            continue
        for line in opened.split(b"\n"):
            if line.strip():
                yield json.loads(line)["text"]


def sample(files, limit):
    """The documents that `moe bench tokenizer` takes."""
    texts = [(text, len(text.encode())) for text in documents(files)]
    size = sum(length for _, length in texts)
    if size <= limit:
        return [text for text, _ in texts], size
    chosen, due, size, share = [], 0.0, 0, limit / size
    for text, length in texts:
        due += share
        if due < 1:
            continue
        due -= 1
        chosen.append(text)
        size += length
    return chosen, size


def best(repeats, work):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def encode(options):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(os.path.join(options.tokenizer, "tokenizer.json"))
    texts, size = sample(options.files, options.mib * MIB)
    seconds, ids = best(options.repeats, lambda: tokenizer.encode_batch_fast(texts, add_special_tokens=False))
    return {"mb_per_s": 1e-6 * size / seconds, "tokens": sum(len(each) for each in ids)}


def tiktoken_encode(options):
    import tiktoken

    with open(os.path.join(options.tokenizer, "tokenizer.json"), encoding="utf-8") as file:
        model = json.load(file)
    splits = [step for step in model["pre_tokenizer"]["pretokenizers"] if step["type"] == "Split"]
    if len(splits) != 1:
        sys.exit("tokenizer_rates: tiktoken takes one expression; this tokenizer has %d splits" % len(splits))
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in printable}
    letters.update({chr(256 + i): byte for i, byte in enumerate(b for b in range(256) if b not in printable)})
    special = {entry["content"] for entry in model["added_tokens"]}
    ranks = {bytes(letters[c] for c in token): rank for token, rank in model["model"]["vocab"].items() if token not in special}
    encoding = tiktoken.Encoding("moe", pat_str=splits[0]["pattern"]["Regex"], mergeable_ranks=ranks, special_tokens={})
    texts, size = sample(options.files, options.mib * MIB)
    seconds, ids = best(options.repeats, lambda: encoding.encode_ordinary_batch(texts, num_threads=options.threads))
    return {"mb_per_s": 1e-6 * size / seconds, "tokens": sum(map(len, ids))}


def train(options):
    from tokenizers import Tokenizer, models, trainers

    start = time.perf_counter()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = Tokenizer.from_file(os.path.join(options.tokenizer, "tokenizer.json")).pre_tokenizer
    from tokenizers.pre_tokenizers import ByteLevel

    trainer = trainers.BpeTrainer(vocab_size=options.vocab_size, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(documents(options.files), trainer)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB}


def run_part(part, threads):
    """A part in a process of its own: the thread count of `tokenizers` is read once, and its memory is its own."""
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"}
    arguments = [sys.executable, *sys.argv, "--part", part, "--threads", str(threads)]
    return json.loads(subprocess.run(arguments, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def main():
    options = parse()
    if options.part:
        print(json.dumps({"encode": encode, "tiktoken": tiktoken_encode, "train": train}[options.part](options)))
        return
    command = [options.moe, "bench", "tokenizer", "--json", "--tokenizer", options.tokenizer, "--mib", str(options.mib),
               "--threads", str(options.threads), "--repeats", str(options.repeats), *options.files]
    ours = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["encoding"]
    rates = {"moe": (ours["mb_per_s_one_thread"], ours["mb_per_s"])}
    counts = {"moe": ours["tokens"]}
    for part, name in (("encode", "tokenizers"), ("tiktoken", "tiktoken")):
        parts = [run_part(part, threads) for threads in (1, options.threads)]
        rates[name] = tuple(each["mb_per_s"] for each in parts)
        counts[name] = parts[0]["tokens"]
    print(f"encoding {1e-6 * ours['bytes']:.1f} MB, {ours['tokens']} ids; MB/s on 1 and {options.threads} threads")
    for name, rate in rates.items():
        ratio = " ".join(f"{mine / theirs:8.2f}x" for mine, theirs in zip(rates["moe"], rate))
        print(f"  {name:<12}" + " ".join(f"{each:9.2f}" for each in rate) + f"   moe's: {ratio}")
    if len(set(counts.values())) != 1:
        sys.exit(f"tokenizer_rates: the numbers of ids differ: {counts}")
    if options.vocab_size:
        command = [options.moe, "bench", "tokenizer", "--json", "--vocab-size", str(options.vocab_size),
                   "--threads", str(options.threads), *options.files]
        ours = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["training"]
        peer = run_part("train", options.threads)
        print(f"training {options.vocab_size} tokens on {1e-6 * ours['bytes']:.1f} MB with {options.threads} threads")
        for name, result in (("moe", ours), ("tokenizers", peer)):
            print(f"  {name:<12}{result['seconds']:9.2f} s {result['peak_rss_gib']:6.2f} GiB")
        print(f"  moe takes {ours['seconds'] / peer['seconds']:.2f} of the time, {ours['peak_rss_gib'] / peer['peak_rss_gib']:.2f} of the memory")


if __name__ == "__main__":
    main()
