#!/usr/bin/env python3
"""A training step of moe and of its PyTorch peer on one GPU, in turn, so that both meet the same card in the same state.

    python3 bench/peers/against.py                          DeepSeekMoE 2B, 64K tokens a step
    python3 bench/peers/against.py --preset 16b4 --rows 8   four layers of the 16B shape

Runs `moe bench step` and torch_cuda_step.py alternately, --rounds times each, and prints the medians and their ratio.
Where the card holds both (100 GiB or more), the peer is one process that waits between its rounds with nothing but its
weights on the card, so that it compiles once; elsewhere each of its rounds is a process.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIGS = {"2b": ["--config", "configs/deepseekmoe-2b.toml"],
           "16b4": ["--config", "configs/deepseekmoe-16b.toml", "--layers", "4"],
           "small": ["--hidden", "64", "--layers", "2", "--heads", "4", "--experts", "15", "--top-k", "3", "--width", "48",
                     "--vocabulary", "512", "--length", "64", "--dtype", "bf16"]}


def output_of(command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with status {result.returncode}:\n{result.stderr[-3000:]}")
    return result.stdout


def holds_both():
    """The card has room for the step of moe beside the peer's weights."""
    try:
        text = output_of(["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"])
    except FileNotFoundError:
        return True  # no card: the host's memory
    return int(text.split()[0]) >= 100 * 1024


class Peer:
    """torch_cuda_step.py, as one waiting process or a process a round."""

    def __init__(self, arguments, waits):
        self.command = [sys.executable, str(HERE / "torch_cuda_step.py"), *arguments]
        self.process = None
        if waits:
            self.process = subprocess.Popen([*self.command, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.line()

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{' '.join(self.command)} ended with status {self.process.wait()}")
        return line

    def round(self):
        if self.process is None:
            return json.loads(output_of(self.command).splitlines()[-1])
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        result = json.loads(self.line())
        self.line()  # it has given its memory back
        return result

    def end(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


def compare(moe, preset, rows, rounds, steps, seconds=float("inf"), device="cuda"):
    """Both in turn, `rounds` times, or at least three times until `seconds` have passed: {"moe": [JSON], "peer": [JSON]}."""
    started = time.monotonic()
    size = ["--rows", str(rows), "--steps", str(steps)]
    ours = [moe, "bench", "step", "--device", device, *CONFIGS[preset], *size, "--json",
            "--product", "8192" if device == "cuda" else "256"]
    plain = [] if device == "cuda" else ["--device", device, "--compile", "none"]
    peer = Peer(["--preset", preset, *size, *plain], holds_both())
    results = {"moe": [], "peer": []}
    for number in range(rounds):
        if number >= 3 and time.monotonic() - started > seconds:
            break
        results["moe"].append(json.loads(output_of(ours)))
        results["peer"].append(peer.round())
        print(f"{preset}, round {number + 1}: moe {results['moe'][-1]['tokens_per_s']:.0f}, "
              f"peer {results['peer'][-1]['tokens_per_s']:.0f} tokens/s ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)
    peer.end()
    return results


def rates(results):
    return [result["tokens_per_s"] for result in results]


def ratio(results):
    return statistics.median(rates(results["moe"])) / statistics.median(rates(results["peer"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=CONFIGS, default="2b")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a round")
    parser.add_argument("--moe", default="build/moe", help="the program")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: does it run? (with --preset small)")
    options = parser.parse_args()
    results = compare(options.moe, options.preset, options.rows, options.rounds, options.steps, device=options.device)
    for name, gib in (("moe", "allocated_gib"), ("peer", "peak_gib")):
        values = rates(results[name])
        print(f"{name:4} {statistics.median(values):10.0f} tokens/s ({min(values):.0f} to {max(values):.0f}), "
              f"{results[name][-1][gib]:.1f} GiB")
    products = [1e-3 * r["product_gflops"] for r in results["moe"]] + [r["product_tflops"] for r in results["peer"]]
    print(f"moe / peer {ratio(results):.3f}; a large product {min(products):.0f} to {max(products):.0f} TFLOP/s")


if __name__ == "__main__":
    main()
