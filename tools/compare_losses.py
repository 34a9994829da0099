#!/usr/bin/env python3
"""Compares the mean loss of some steps of two training logs (log.jsonl): compare_losses.py A B --steps 181 200"""

import argparse
import json


def mean_loss(path, first, last):
    losses = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            if "step" in entry:
                losses[entry["step"]] = entry["loss"]
    return sum(losses[step] for step in range(first, last + 1)) / (last + 1 - first)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("--steps", type=int, nargs=2, default=(181, 200), metavar=("FIRST", "LAST"))
    options = parser.parse_args()
    a, b = (mean_loss(path, *options.steps) for path in (options.a, options.b))
    print(f"mean loss of steps {options.steps[0]} to {options.steps[1]}: {a:.4f} and {b:.4f}, difference {b - a:+.4f}")


if __name__ == "__main__":
    main()
