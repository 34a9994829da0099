#!/usr/bin/env python3
"""How the cost of training grows with tokens, experts, sequence length and threads: prints the tables of docs/performance.md.

    bench/growth.py [--moe build/moe] [--dtype bf16] [--table tokens|finer|more|length|threads]

Each line is one run of `moe bench layer` or `moe bench step` in the shape of the speed comparison (d = 512, 1 shared expert
and 63 routed ones of width 344, top 7) except for what the table varies. Time it on an idle machine.
"""

import argparse
import json
import os
import subprocess


def measure(options, *arguments):
    command = [options.moe, "bench", *map(str, arguments), "--dtype", options.dtype, "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def table(title, columns, rows):
    print(f"{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


LAYER = ("time", "of a large product", "routing overhead", "dense FFN of the same activated width")


def layer(options, *arguments):
    j = measure(options, "layer", *arguments)
    return [f"{j['layer_ms']:.1f} ms", f"{100 * j['layer_share_of_product']:.1f}%", f"{100 * j['routing_overhead']:.1f}%",
            f"{j['dense_ms']:.1f} ms, {100 * j['dense_share_of_product']:.1f}%"]


def tokens(options):
    rows = ([str(n), *layer(options, "--tokens", n)] for n in (64, 256, 1024, 4096, 16384))
    table("Tokens, one MoE layer, forward and backward:", ("tokens", *LAYER), rows)


def finer(options):
    """Equal parameters and equal activated cost: each of 8 experts of width 2752 cut into m."""
    rows = ([f"{8 * m}, top {m}", str(2752 // m), *layer(options, "--shared", 0, "--experts", 8 * m, "--top-k", m, "--width", 2752 // m)]
            for m in (1, 2, 4, 8, 16, 32))
    table("Experts, finer and finer at equal cost (no shared one), 4096 tokens:", ("routed experts", "width", *LAYER), rows)


def more(options):
    rows = ([str(n), *layer(options, "--experts", n)] for n in (8, 16, 32, 64, 128, 256))
    table("Experts, more and more of the same width, top 7, 4096 tokens:", ("routed experts", *LAYER), rows)


def length(options):
    def row(n):
        j = measure(options, "step", "--layers", 2, "--length", n, "--rows", 8192 // n)
        attention = sum(op["ms"] for name, op in j["ops"].items() if name.startswith("attention"))
        return [str(n), f"{j['tokens_per_s']:.0f}", f"{100 * j['share_of_product']:.1f}%", f"{0.1 * attention / j['step_s']:.1f}%"]

    table("Sequence length, a training step of two layers, 8192 tokens:",
          ("tokens in a sequence", "tokens/s", "of a large product", "of the time in attention"), map(row, (256, 512, 1024, 2048, 4096, 8192)))


def threads(options):
    def row(n):
        j = measure(options, "step", "--layers", 2, "--rows", 4, "--threads", n)
        return [str(n), f"{j['tokens_per_s']:.0f}", f"{j['gflops']:.1f}", f"{100 * j['share_of_product']:.1f}%"]

    counts = [1]
    while counts[-1] * 2 <= os.cpu_count():
        counts.append(counts[-1] * 2)
    table("Threads, a training step of two layers, 4096 tokens:",
          ("threads", "tokens/s", "GFLOP/s", "of a large product on as many"), map(row, counts))


TABLES = {"tokens": tokens, "finer": finer, "more": more, "length": length, "threads": threads}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moe", default="build/moe")
    parser.add_argument("--dtype", default="f32", choices=("f32", "bf16"))
    parser.add_argument("--table", choices=TABLES, help="one of them alone")
    options = parser.parse_args()
    for name, write in TABLES.items():
        if options.table in (None, name):
            write(options)


if __name__ == "__main__":
    main()
