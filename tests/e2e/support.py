"""What the end-to-end tests share: the program, and small datasets made with it. A test is started as TEST.py PATH_OF_MOE."""

import json
import pathlib
import subprocess
import sys

MOE = pathlib.Path(sys.argv.pop(1)).resolve()
ROOT = pathlib.Path(__file__).resolve().parents[2]


def moe(*arguments, check=True, input=None):
    """Runs the program; with `check` a failure raises, with what it printed."""
    result = subprocess.run([MOE, *map(str, arguments)], capture_output=True, text=True, input=input)
    if check and result.returncode != 0:
        raise AssertionError(f"moe {arguments} ended with {result.returncode}:\n{result.stderr}")
    return result


def make_dataset(base, domains, vocab_size=400):
    """base/dataset from {domain: [text]}, with a tokenizer trained on them (base/tokenizer); returns the texts' files."""
    files = []
    for domain, texts in domains.items():
        files.append(base / f"{domain}.jsonl")
        files[-1].write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    moe("tokenizer", "train", "--vocab-size", vocab_size, "--out", base / "tokenizer", *files)
    moe("data", "--tokenizer", base / "tokenizer", "--out", base / "dataset", *files)
    return files


def log_without_times(path):
    """The objects of a log.jsonl, but for what no two runs share."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        del line["tokens_per_second"]
    return lines
