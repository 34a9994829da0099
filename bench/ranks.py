#!/usr/bin/env python3
"""How training scales with ranks: trains the same run file with 1, 2, 4, ... ranks, in turn, and prints a table.

    bench/ranks.py FILE --data DIR [--moe build/moe] [--ranks 1,2,4] [--expert-parallel 1,2,4] [--pipeline 1,1,2]
                   [--rows 32] [--steps 20] [--rounds 2] [--device cuda] [--logs DIR] [--set KEY=VALUE]...

Every rank has the same number of rows (--rows), so with N ranks a step has N times the tokens. --expert-parallel says for each of
the numbers of ranks how many of them divide the routed experts; without it, each rank has all experts. --pipeline says how many
stages divide the layers; without it, there is one. A line is the median of
the steps after the first half, over all rounds. The ratio is to the first line. `exchange` is how long a GPU did nothing but
exchange with other ranks or wait for them in a step. The shares of --peak TFLOP/s are by the plan's FLOPs of a step (attention
too, all rows full), and by 6 FLOPs for each token and parameter that it uses; with --device cpu they are left out. `memory` is
what rank 0 allocated at most on its device, and what the plan said.
A run is killed after its --steps, so no checkpoint is written. Run folders are made in --folder and removed. --logs DIR keeps the
log.jsonl of every run. A line after each run, on standard error, says what was seen so far.
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
from dataclasses import dataclass, field

PEAK = 989  # TFLOP/s of bf16 products that an H100 or H200 has by its data sheet


def add_common_arguments(parser):
    parser.add_argument("--data", required=True, help="dataset")
    parser.add_argument("--moe", default="build/moe")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2, help="how often each layout has its turn")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--folder", default=None, help="for run folders")
    parser.add_argument("--logs", type=pathlib.Path, metavar="DIR", help="keep the log of each run here")
    parser.add_argument("--peak", type=float, default=PEAK, help="TFLOP/s of a GPU that are the whole")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="run file")
    parser.add_argument("--ranks", default="1,2", help="numbers of ranks, with commas")
    parser.add_argument("--expert-parallel", default=None, help="for each of them: ranks that divide the experts")
    parser.add_argument("--pipeline", default=None, help="for each of them: stages that divide the layers")
    parser.add_argument("--rows", type=int, default=32, help="rows of a step for each rank")
    add_common_arguments(parser)
    options = parser.parse_args()
    ranks = [int(number) for number in options.ranks.split(",")]

    def for_each(option, text):
        numbers = [int(number) for number in text.split(",")] if text else [1] * len(ranks)
        if len(numbers) != len(ranks):
            parser.error(f"{option} has {len(numbers)} numbers, expected {len(ranks)}, one for each of --ranks")
        return numbers
    experts, stages = for_each("--expert-parallel", options.expert_parallel), for_each("--pipeline", options.pipeline)
    options.layouts = [Layout(options.file, count, width, options.rows, stages=depth)
                       for count, width, depth in zip(ranks, experts, stages)]
    return options


@dataclass
class Layout:
    """What is trained, and how its ranks divide it. `seen` has the steps of all rounds after the first half of each."""
    file: str
    ranks: int
    experts: int
    rows: int  # of a step, for each rank
    settings: list = field(default_factory=list)
    stages: int = 1
    seen: list = field(default_factory=list)
    run: dict = field(default_factory=dict)

    def median(self, key):
        return statistics.median(step.get(key, 0) for step in self.seen)

    def rate(self):
        return self.median("tokens_per_second")

    def shares(self, peak):
        """Of the peak of all GPUs, by the plan's FLOPs of a step with all its rows full, and by 6 for each parameter used."""
        second = self.ranks * peak * 1e12
        return (self.run["plan"]["step_flops"] / self.median("seconds") / second,
                6 * self.run["activated_parameters"] * self.rate() / second)


def lines_of(log):
    """The objects of a log; its last line may still be incomplete."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return [json.loads(line) for line in lines]


def steps_in(log):
    return [line for line in lines_of(log) if "tokens_per_second" in line]


def train(options, layout, folder):
    """Trains one round."""
    settings = [f"run.dir={folder}", f"data.train={options.data}", f"data.rows_per_step={layout.rows * layout.ranks}",
                f"train.steps={options.steps + 1000000}", "checkpoint.every=0", "log.tensorboard=false",
                "eval.every=0", "sample.every=0", *layout.settings, *options.set]
    command = [options.moe, "train", layout.file, "--device", options.device]
    if layout.ranks > 1:
        command += ["--ranks", str(layout.ranks), "--expert-parallel", str(layout.experts), "--pipeline", str(layout.stages)]
    for setting in settings:
        command += ["--set", setting]
    log = folder / "log.jsonl"
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        try:
            while process.poll() is None and len(steps_in(log)) < options.steps:
                time.sleep(0.2)
            if process.poll() is not None:
                errors.seek(0)
                raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors.read().strip()[-2000:]}")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # its ranks too
                process.wait()
            if options.logs and log.exists():
                options.logs.mkdir(parents=True, exist_ok=True)
                number = len(list(options.logs.iterdir())) + 1
                name = f"{pathlib.Path(layout.file).stem}-{layout.ranks}-ranks-ep{layout.experts}-pp{layout.stages}"
                shutil.copy(log, options.logs / f"{number:02}-{name}.jsonl")
    layout.run = lines_of(log)[0]["run"]
    steps = steps_in(log)[:options.steps]
    for step in steps:
        step["seconds"] = step["tokens"] / step["tokens_per_second"]
    layout.seen += steps[len(steps) // 2:]


def train_all(options, layouts):
    """Trains all layouts in turn. Of one that failed, `seen` stays empty; the sentence goes to standard error."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="moe-ranks-", dir=options.folder))
    failed = False
    try:
        for _ in range(options.rounds):
            for layout in layouts:
                try:
                    train(options, layout, base / "run")
                    print(f"{layout.file}, ranks {layout.ranks}, experts over {layout.experts}, stages {layout.stages}: "
                          f"{layout.rate():,.0f} tokens/s so far", file=sys.stderr, flush=True)
                except RuntimeError as error:
                    failed = True
                    print(f"ranks: {error}", file=sys.stderr, flush=True)
                shutil.rmtree(base / "run", ignore_errors=True)
    finally:
        shutil.rmtree(base)
    return failed


COLUMNS = ("ranks | that divide the experts | stages | tokens a step | tokens/s | for each rank | ratio | exchange, ms | "
           "share of the peak; by 6 N | memory; plan, GiB | last loss")


def row(layout, first, options):
    if not layout.seen:
        return f"{layout.ranks} | {layout.experts} | {layout.stages} | | failed | | | | | |"
    last, gib = layout.seen[-1], 2 ** 30
    share = "; ".join(f"{100 * one:.1f}%" for one in layout.shares(options.peak)) if options.device == "cuda" else ""
    ratio = f"{layout.rate() / first.rate():.3f}" if first.seen else ""
    return (f"{layout.ranks} | {layout.experts} | {layout.stages} | {last['tokens']} | {layout.rate():,.0f} | "
            f"{layout.rate() / layout.ranks:,.0f} | {ratio} | "
            f"{1000 * layout.median('exchange_seconds'):.1f} | {share} | {last['peak_bytes'] / gib:.2f}; "
            f"{layout.run['plan'].get('memory_bytes', 0) / gib:.2f} | {last['loss']:.4f}")


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ranks: ended by SIGTERM"))  # so that the run ends too
    failed = train_all(options, options.layouts)
    print(f"| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}")
    for layout in options.layouts:
        print(f"| {row(layout, options.layouts[0], options)} |")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
