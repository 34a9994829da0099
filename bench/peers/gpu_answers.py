#!/usr/bin/env python3
"""Answers of the 16B shape on a GPU: `moe bench generate` and a PyTorch program in turn.

    python3 bench/peers/gpu_answers.py --peer DIR/d_infer.py

The PyTorch program takes `--prefill TOKENS --decode LIST --ctx N --steps N --name NAME`, where LIST has one entry for each way to
decode, `batch:way...` with commas between, and writes $PEER_OUT/NAME.json: {"rows": [{"what": "decode", "batch", "ctx", "tokens_s"},
{"what": "prefill", "T", "tokens_s"}, ...]}. Of its ways to decode a batch, the fastest one counts. Each round measures both
programs, one after the other, with random weights in bf16 and a full cache. Prints after each of --rounds rounds the medians so far, the
lowest and highest values, the ratio, and moe's share of the floor: the bytes that a step must read, at the rate at which it read the memory.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

WAYS = {1: ["split:manual:reduce:cd", "gather+:manual:reduce:cd"], 8: ["grouped:manual:mm:gemm"],
        64: ["grouped:manual:mm:gemm"]}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moe", default="build/moe")
    parser.add_argument("--peer", required=True, help="the PyTorch program")
    parser.add_argument("--python", default=sys.executable, help="the Python that has PyTorch")
    parser.add_argument("--config", default="configs/deepseekmoe-16b.toml")
    parser.add_argument("--batch", default="1,8,64", help="sequences, with commas between")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=4096, help="tokens of the prompt; 0: none")
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args()


def run(command, **more):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def moe_rates(args):
    """{what: (tokens/s, share of the floor or None)}"""
    common = [args.moe, "bench", "generate", "--device", "cuda", "--config", args.config, "--tokens", args.tokens, "--json"]
    found = {}
    for row in json.loads(run([*common, "--batch", args.batch, "--context", args.context]))["rows"]:
        found[f"batch {row['batch']}"] = row["tokens_per_s"], row["share_of_floor"]
    if args.prompt > 0:
        out = json.loads(run([*common, "--prompt", args.prompt, "--product", 0]))
        found[f"prompt of {args.prompt}"] = out["prompt_tokens_per_s"], None
    return found


def peer_rates(args, folder):
    batches = [int(word) for word in args.batch.split(",")]
    ways = [f"{batch}:{way}" for batch in batches for way in WAYS.get(batch, ["grouped:manual:mm:gemm"])]
    run([args.python, args.peer, "--prefill", args.prompt or "", "--decode", ",".join(ways), "--ctx", args.context, "--steps",
         args.tokens, "--name", "answers"], env={**os.environ, "PEER_OUT": folder}, cwd=Path(args.peer).resolve().parent)
    found = {}
    for row in json.loads((Path(folder) / "answers.json").read_text())["rows"]:
        what = {"decode": f"batch {row.get('batch')}", "prefill": f"prompt of {row.get('T')}"}.get(row["what"])
        if what is not None and "tokens_s" in row:
            found[what] = max(found.get(what, 0), row["tokens_s"])
    return found


def text(values):
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def print_table(args, rounds, moe, share, peer):
    print(f"context {args.context}, {rounds} rounds; tokens/s: median (lowest to highest)")
    print("| | moe | of the floor | PyTorch | ratio |\n|---|---|---|---|---|")
    for what, rates in moe.items():
        of_floor = "" if share[what][0] is None else f"{100 * statistics.median(share[what]):.0f}%"
        other = peer.get(what)
        ratio = f"{statistics.median(rates) / statistics.median(other):.2f}" if other else ""
        print(f"| {what} | {text(rates)} | {of_floor} | {text(other) if other else '-'} | {ratio} |", flush=True)


def main():
    args = parse()
    moe, share, peer = {}, {}, {}
    for done in range(args.rounds):
        for what, (rate, of_floor) in moe_rates(args).items():
            moe.setdefault(what, []).append(rate)
            share.setdefault(what, []).append(of_floor)
        with tempfile.TemporaryDirectory() as folder:
            for what, rate in peer_rates(args, folder).items():
                peer.setdefault(what, []).append(rate)
        print_table(args, done + 1, moe, share, peer)


if __name__ == "__main__":
    main()
