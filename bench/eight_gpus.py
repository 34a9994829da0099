#!/usr/bin/env python3
"""What a host of eight GPUs does: DeepSeekMoE 2B on 1, 2, 4 and 8 of them, and all of DeepSeekMoE 16B on all, as one table.

    bench/eight_gpus.py --data DIR [--gpus 8] [--moe build/moe] [--steps 20] [--rounds 1] [--folder /dev/shm] [--logs DIR] [--set KEY=VALUE]...
    bench/eight_gpus.py --data DIR --gpus 4 --device cpu --steps 4 --tiny      does it run? small models, ranks on processors

The 2B has 64K tokens for each GPU. The 16B divides its experts among half of the GPUs, then among all of them. It runs twice: as its tokens
are routed, and with forced balance. There experts choose tokens (`model.method = expert_choice`), so each has as many. With fewer GPUs a
model may not fit, and its row says so: the whole 16B needs about 295 GB in all. bench/ranks.py says what the columns mean.
A step of the 16B has --step-rows rows on any number of GPUs, so that the losses should not depend on it: --losses FILE writes the
losses of the later steps to FILE, or compares them with that file if it is there.
"""

import argparse
import json
import pathlib
import signal
import sys

import ranks

TOKENS = 65536  # of a step of the 2B, for each GPU
FORCED = ["model.method=expert_choice", "model.num_experts_per_tok=6", "balance.alpha_expert=0"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ranks.add_common_arguments(parser)
    parser.set_defaults(rounds=1)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--step-rows", type=int, default=128, help="rows of a step of the 16B, of all GPUs together")
    parser.add_argument("--tiny", action="store_true", help="both models with two narrow layers")
    parser.add_argument("--losses", type=pathlib.Path, help="losses of the 16B, made if it is not there")
    return parser.parse_args()


def layouts_of(options):
    """(what it is called, its layout)"""
    small, large = "configs/deepseekmoe-2b.toml", "configs/deepseekmoe-16b.toml"
    narrow = ["model.hidden_size=64", "model.num_hidden_layers=2", "model.num_attention_heads=4", "model.moe_intermediate_size=32",
              "model.intermediate_size=128", "model.vocab_size=8192", "data.sequence_length=128", "model.max_position_embeddings=128"]
    settings = narrow if options.tiny else []
    rows = 2 if options.tiny else TOKENS // 2048
    counts = [count for count in (1, 2, 4, 8) if count <= options.gpus]
    found = [("2B, data parallel", ranks.Layout(small, count, 1, rows, settings)) for count in counts]
    for width in sorted({max(options.gpus // 2, 1), options.gpus}):
        data = options.gpus // width
        for name, more in (("routed", []), ("forced balance", FORCED)):
            layout = ranks.Layout(large, options.gpus, width, options.step_rows // options.gpus, settings + more)
            found.append((f"16B, experts over {width}, {data} {'copy' if data == 1 else 'copies'}, {name}", layout))
    return found


def compared_losses(path, layout):
    """A sentence about the losses of a layout beside those that another run wrote."""
    losses = [step["loss"] for step in layout.seen]
    if not path.exists():
        path.write_text(json.dumps(losses))
        return f"losses of {layout.ranks} ranks: written to {path}"
    before = json.loads(path.read_text())
    most = max((abs(a - b) / abs(b) for a, b in zip(losses, before)), default=0)
    return f"losses of {layout.ranks} ranks beside {path}: {min(len(losses), len(before))} steps, the largest relative difference is {most:.2e}"


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("eight_gpus: ended by SIGTERM"))  # so that the run ends too
    named = layouts_of(options)
    failed = ranks.train_all(options, [layout for _, layout in named])
    print(f"| work | {ranks.COLUMNS} |\n|{'---|' * (ranks.COLUMNS.count('|') + 2)}")
    first = {}
    for name, layout in named:
        print(f"| {name} | {ranks.row(layout, first.setdefault(layout.file, layout), options)} |")
    routed = next(layout for name, layout in named if name.startswith("16B"))
    if options.losses and routed.seen:
        print(compared_losses(options.losses, routed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
