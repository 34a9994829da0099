#!/usr/bin/env python3
"""Checks logits against the independent PyTorch model of tools/golden, for any `DeepseekForCausalLM` folder.

    check_logits.py --make-random CONFIG.json MODEL_DIR --seed 7          writes a folder of random weights
    build/moe logits MODEL_DIR --tokens 5,1,4 --out F.safetensors
    check_logits.py MODEL_DIR --tokens 5,1,4 --logits F.safetensors       prints the largest relative error

The error is max |a - b| / max |b| over all logits, b being the reference; above --tolerance the exit status is 1. The
reference runs in float64 unless --dtype f32 is given. A CONFIG.json needs only the fields that differ from
deepseek-moe-16b-base. `--tokens random:T[:SEED]` stands for T random tokens and prints them where --logits is absent.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from golden.folder import BASE_FIELDS, random_weights, read_folder, write_folder
from golden.model import forward, read_config


def parse_tokens(text, vocab):
    if text.startswith("random:"):
        count, _, seed = text.removeprefix("random:").partition(":")
        return np.random.Generator(np.random.PCG64(int(seed or 0))).integers(vocab, size=int(count)).tolist()
    tokens = [int(t) for t in text.split(",")]
    outside = [t for t in tokens if not 0 <= t < vocab]
    if outside:
        raise ValueError(f"token {outside[0]} is not in [0, {vocab})")
    return tokens


def make_random(arguments):
    fields = {**BASE_FIELDS, **json.loads(arguments.make_random.read_text())}
    config = read_config(fields)
    weights = random_weights(config, arguments.seed, arguments.std, arguments.router_std)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[arguments.store]
    fields["torch_dtype"] = "float32" if dtype == torch.float32 else "bfloat16"
    write_folder(arguments.model_dir, fields, {name: w.to(dtype) for name, w in weights.items()})
    print(f"{arguments.model_dir}: {sum(w.numel() for w in weights.values())} parameters, seed {arguments.seed}")
    return 0


def check(arguments):
    dtype = {"f32": torch.float32, "f64": torch.float64}[arguments.dtype]
    config, weights = read_folder(arguments.model_dir, dtype)
    tokens = parse_tokens(arguments.tokens, config.vocab_size)
    if arguments.logits is None:
        print(",".join(map(str, tokens)))
        return 0
    stored = load_file(arguments.logits)
    if "logits" not in stored:
        raise ValueError(f"{arguments.logits} has no tensor `logits`, but {sorted(stored)}")
    logits = stored["logits"].double()
    with torch.no_grad():
        flat = torch.tensor(tokens)
        reference, routes = forward(config, weights, flat, torch.zeros(len(tokens), dtype=torch.int64))
    reference = reference.double()
    if logits.shape != reference.shape:
        raise ValueError(f"{arguments.logits}: logits have shape {list(logits.shape)}, not {list(reference.shape)}")
    # A NaN must fail: it compares false with every tolerance.
    error = ((logits - reference).abs().max() / reference.abs().max()).item()
    worst_row = int((logits - reference).abs().max(dim=1).values.argmax())
    gap = min((chosen.gap.min().item() for chosen in routes), default=float("inf"))
    print(
        f"max relative error {error:.3e} ({len(tokens)} tokens, worst at position {worst_row}, "
        f"closest routing call {gap:.1e}, largest logit {reference.abs().max().item():.3f})"
    )
    return 0 if error <= arguments.tolerance else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", type=Path, help="the model folder (with --make-random: the one to write)")
    parser.add_argument("--tokens", help="ids separated by commas, or random:T[:SEED]")
    parser.add_argument("--logits", type=Path, help="safetensors file with `logits` [T, V]")
    parser.add_argument("--dtype", choices=("f32", "f64"), default="f64", help="precision of the reference")
    parser.add_argument("--tolerance", type=float, default=5e-5)
    parser.add_argument("--make-random", type=Path, metavar="CONFIG.json", help="write MODEL_DIR from these fields")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--std", type=float, default=0.1, help="standard deviation of the random matrices")
    parser.add_argument("--router-std", type=float, default=0.3)
    parser.add_argument("--store", choices=("f32", "bf16"), default="f32", help="dtype of the random folder")
    arguments = parser.parse_intermixed_args()
    if not arguments.make_random and not arguments.tokens:
        parser.error("--tokens is required")
    try:
        return make_random(arguments) if arguments.make_random else check(arguments)
    except (ValueError, OSError, KeyError, SafetensorError) as error:
        print(f"check_logits: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
