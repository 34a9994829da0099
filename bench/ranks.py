#!/usr/bin/env python3
"""How training scales with ranks: trains the same run file with 1, 2, 4, ... ranks, in turn, and prints a table.

    bench/ranks.py FILE --data DIR [--moe build/moe] [--ranks 1,2,4] [--expert-parallel 1,2,4] [--rows 32] [--steps 20]
                   [--rounds 2] [--device cuda] [--set KEY=VALUE]...

Every rank has the same number of rows (--rows), so with N ranks a step has N times the tokens. --expert-parallel says for each of
the numbers of ranks how many of them divide the routed experts; without it, each rank has all experts. A line is the median of
the steps after the first half, over all rounds. The ratio is to the first line. `peak` is what rank 0 allocated at most on its device.
A run is killed after its --steps, so no checkpoint is written. Run folders are made in --folder and removed. A line after each run,
on standard error, says what was seen so far.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="run file")
    parser.add_argument("--data", required=True, help="dataset")
    parser.add_argument("--moe", default="build/moe")
    parser.add_argument("--ranks", default="1,2", help="numbers of ranks, with commas")
    parser.add_argument("--expert-parallel", default=None, help="for each of them: ranks that divide the experts")
    parser.add_argument("--rows", type=int, default=32, help="rows of a step for each rank")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2, help="how often each number of ranks has its turn")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--folder", default=None, help="for run folders")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    ranks = [int(number) for number in options.ranks.split(",")]
    experts = [int(number) for number in options.expert_parallel.split(",")] if options.expert_parallel else [1] * len(ranks)
    if len(experts) != len(ranks):
        parser.error(f"--expert-parallel has {len(experts)} numbers, expected {len(ranks)}, one for each of --ranks")
    options.layouts = list(zip(ranks, experts))
    return options


def steps_in(log):
    """Its lines of steps; the last line may still be incomplete."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return [step for step in map(json.loads, lines) if "tokens_per_second" in step]


def train(options, layout, folder):
    """The steps of one run: tokens per second, loss and peak memory of each."""
    ranks, experts = layout
    settings = [f"run.dir={folder}", f"data.train={options.data}", f"data.rows_per_step={options.rows * ranks}",
                f"train.steps={options.steps + 1000}", "schedule.warmup_steps=1", "checkpoint.every=0", "log.tensorboard=false",
                *options.set]
    command = [options.moe, "train", options.file, "--device", options.device]
    if ranks > 1:
        command += ["--ranks", str(ranks), "--expert-parallel", str(experts)]
    for setting in settings:
        command += ["--set", setting]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        try:
            while process.poll() is None and len(steps_in(folder / "log.jsonl")) < options.steps:
                time.sleep(0.2)
            if process.poll() is not None:
                errors.seek(0)
                sys.exit(f"ranks: {' '.join(command)} ended with {process.returncode}: {errors.read().strip()[-2000:]}")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # its ranks too
                process.wait()
    return steps_in(folder / "log.jsonl")[:options.steps]


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ranks: ended by SIGTERM"))  # so that the run ends too
    base = pathlib.Path(tempfile.mkdtemp(prefix="moe-ranks-", dir=options.folder))
    rates, last = {layout: [] for layout in options.layouts}, {}
    try:
        for _ in range(options.rounds):
            for layout in options.layouts:
                steps = train(options, layout, base / "run")
                rates[layout] += [step["tokens_per_second"] for step in steps[len(steps) // 2:]]
                last[layout] = steps[-1]
                print(f"ranks {layout[0]}, experts over {layout[1]}: {statistics.median(rates[layout]):,.0f} tokens/s so far",
                      file=sys.stderr, flush=True)
                shutil.rmtree(base / "run")
    finally:
        shutil.rmtree(base)
    print("| ranks | that divide the experts | tokens a step | tokens/s | ratio | last loss | peak, GiB |")
    print("|---|---|---|---|---|---|---|")
    first = statistics.median(rates[options.layouts[0]])
    for layout in options.layouts:
        rate, step = statistics.median(rates[layout]), last[layout]
        print(f"| {layout[0]} | {layout[1]} | {step['tokens']} | {rate:,.0f} | {rate / first:.3f} | {step['loss']:.4f} | "
              f"{step['peak_bytes'] / 2**30:.2f} |")


if __name__ == "__main__":
    main()
