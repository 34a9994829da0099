#!/usr/bin/env python3
"""Prints the last replay of a recorded step from what bench/kernel_times.cpp wrote.

A kernel may start while the ones before it run, so what it costs is the time from the last end before it to its own
end: `end to end`. These times add up to the step's.

    python3 bench/kernel_times.py times.csv                       # kernels of the same name together
    python3 bench/kernel_times.py times.csv --from combine_kernel # those between two such kernels, the mean of all
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections import defaultdict


def read(path):
    with open(path) as file:
        rows = [line.rstrip("\n").split(",", 8) for line in file][1:]
    kernels = [{"start": int(r[0]), "end": int(r[1]), "node": int(r[2]), "blocks": f"{r[3]}x{r[4]}",
                "threads": int(r[5]), "name": r[8]} for r in rows]
    return sorted((k for k in kernels if k["node"] != 0), key=lambda k: k["start"])


def short_names(kernels):
    """Names without namespaces and parameters."""
    long = sorted({k["name"] for k in kernels})
    plain = long
    if shutil.which("c++filt"):
        plain = subprocess.run(["c++filt"], input="\n".join(long), capture_output=True, text=True,
                               check=True).stdout.split("\n")
    shorten = lambda text: re.sub(r"\(.*", "", text.replace("(anonymous namespace)::", "")).replace("void ", "")
    names = {name: shorten(text).replace("moe::cuda::", "") for name, text in zip(long, plain)}
    for kernel in kernels:
        kernel["name"] = names[kernel["name"]]


def last_replay(kernels):
    """Between the last two starts of the recording's first kernel."""
    first = kernels[0]["node"]
    starts = [i for i, k in enumerate(kernels) if k["node"] == first]
    if len(starts) < 2:
        sys.exit("kernel_times: the file has no two replays of one recording; run more steps")
    return kernels[starts[-2]:starts[-1]], kernels[starts[-1]]["start"]


def add_costs(step):
    end = step[0]["start"]
    for kernel in step:
        kernel["cost"] = max(0, kernel["end"] - end) / 1e3
        kernel["length"] = (kernel["end"] - kernel["start"]) / 1e3
        end = max(end, kernel["end"])


def print_kernels(groups):
    print(f"{'count':>5} {'end to end us':>13} {'own us':>8} {'blocks':>8}  kernel")
    for kernels in groups:
        mean = lambda key: sum(k[key] for k in kernels) / len(kernels)
        print(f"{len(kernels):5} {mean('cost'):13.2f} {mean('length'):8.2f} {kernels[0]['blocks']:>8}  "
              f"{kernels[0]['name'][:70]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--from", dest="first", help="a part of the name of the kernel that ends a layer")
    args = parser.parse_args()
    kernels = read(args.file)
    if not kernels:
        sys.exit(f"kernel_times: {args.file} has no kernel of a recording")
    short_names(kernels)
    step, next_start = last_replay(kernels)
    add_costs(step)
    print(f"{(next_start - step[0]['start']) / 1e3:.1f} us from replay to replay, {len(step)} kernels")
    if args.first is None:
        groups = defaultdict(list)
        for kernel in step:
            groups[kernel["name"], kernel["blocks"]].append(kernel)
        print_kernels(sorted(groups.values(), key=lambda g: -sum(k["cost"] for k in g)))
        return
    ends = [i for i, k in enumerate(step) if args.first in k["name"]]
    if len(ends) < 2:
        sys.exit(f"kernel_times: {args.first} is not twice in a step")
    length = ends[1] - ends[0]
    layers = [step[i + 1:i + 1 + length] for i in ends if i + length in ends]
    print_kernels(list(zip(*layers)))
    print(f"{sum(k['cost'] for layer in layers for k in layer) / len(layers):19.2f} us a layer")


if __name__ == "__main__":
    main()
