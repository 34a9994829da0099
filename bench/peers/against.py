#!/usr/bin/env python3
"""A training step of moe and of its PyTorch peer on one GPU, in turn, so that both meet the same card in the same state.

    python3 bench/peers/against.py                          DeepSeekMoE 2B, 64K tokens a step
    python3 bench/peers/against.py --preset 16b4 --rows 8   four layers of the 16B shape

Runs `moe bench step` and torch_cuda_step.py alternately, --rounds times each, and prints the medians and their ratio.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIGS = {"2b": ["--config", "configs/deepseekmoe-2b.toml"],
           "16b4": ["--config", "configs/deepseekmoe-16b.toml", "--layers", "4"]}


def output_of(command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"against.py: {' '.join(command)} ended with status {result.returncode}:\n{result.stderr[-3000:]}")
    return result.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=CONFIGS, default="2b")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a round")
    parser.add_argument("--moe", default="build/moe", help="the program")
    options = parser.parse_args()
    size = ["--rows", str(options.rows), "--steps", str(options.steps)]
    ours = [options.moe, "bench", "step", "--device", "cuda", *CONFIGS[options.preset], *size, "--product", "8192", "--json"]
    theirs = [sys.executable, str(HERE / "torch_cuda_step.py"), "--preset", options.preset, *size]
    rates, memory, products = {"moe": [], "peer": []}, {}, []
    for number in range(options.rounds):
        moe = json.loads(output_of(ours))
        peer = json.loads(output_of(theirs).splitlines()[-1])
        for name, result, gib in (("moe", moe, "allocated_gib"), ("peer", peer, "peak_gib")):
            rates[name].append(result["tokens_per_s"])
            memory[name] = result[gib]
        products += [1e-3 * moe["product_gflops"], peer["product_tflops"]]
        print(f"round {number + 1}: moe {rates['moe'][-1]:.0f}, peer {rates['peer'][-1]:.0f} tokens/s", flush=True)
    for name, values in rates.items():
        print(f"{name:4} {statistics.median(values):10.0f} tokens/s ({min(values):.0f} to {max(values):.0f}), "
              f"{memory[name]:.1f} GiB")
    print(f"moe / peer {statistics.median(rates['moe']) / statistics.median(rates['peer']):.3f}; "
          f"a large product {min(products):.0f} to {max(products):.0f} TFLOP/s")


if __name__ == "__main__":
    main()
