#!/usr/bin/env python3
"""Runs the fuzzing targets of a build folder (tests/fuzz) and prints a table of what they did.

Each target starts from the seeds of tests/fuzz/make_seeds.py and from what earlier runs kept in FOLDER/corpus/TARGET. A
finding is an input that ends the process (a fault, an exception that is no Error, a check that fails), takes more than
--timeout seconds, or more memory than --memory MiB. It is kept in FOLDER/findings. The exit status is 1 if there is one."""

import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Longer inputs are slower, and find nothing that shorter ones do not; some formats need room.
LONGEST = {"tokenizer_json": 24_000, "gguf_model": 20_000, "side_files": 6_000, "run_file": 1_500}

# MiB, where the usual limit is too low: a zstd file may ask for a window of 2 GiB (src/formats/compression.h).
MEMORY = {"compression": 5120}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="the build folder of the preset fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--runs", type=int, default=0, help="this many executions of each target instead of --seconds")
    parser.add_argument("--targets", default="", help="names, with commas or blanks between them (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--timeout", type=int, default=10, help="seconds that one input may take (default 10)")
    parser.add_argument("--memory", type=int, default=1024, help="MiB that a process may hold, and one allocation half of it")
    return parser.parse_args()


def targets_of(folder, wanted):
    there = sorted(path.name.removeprefix("fuzz_") for path in (folder / "tests" / "fuzz").glob("fuzz_*")
                   if path.is_file() and os.access(path, os.X_OK))
    names = wanted.replace(",", " ").split() or there
    unknown = [name for name in names if name not in there]
    if unknown:
        sys.exit(f"fuzz: there is no target {unknown[0]}, expected one of {', '.join(there)}")
    return names


def run(name, folder, options):
    """One target; returns its row of the table."""
    corpus, findings = folder / "corpus" / name, folder / "findings"
    for path in (corpus, findings, folder / "logs"):
        path.mkdir(parents=True, exist_ok=True)
    before = set(findings.iterdir())
    limit = [f"-runs={options.runs}"] if options.runs else [f"-max_total_time={options.seconds}"]
    memory = max(options.memory, MEMORY.get(name, 0))
    command = [folder / "tests" / "fuzz" / f"fuzz_{name}", corpus, folder / "seeds" / name, *limit,
               f"-dict={folder / 'seeds' / name}.dict", f"-max_len={LONGEST.get(name, 4096)}",
               f"-timeout={options.timeout}", f"-rss_limit_mb={memory}",
               f"-malloc_limit_mb={memory // 2}", f"-artifact_prefix={findings}/{name}-",
               "-print_final_stats=1", "-verbosity=1"]
    environment = dict(os.environ, UBSAN_OPTIONS="print_stacktrace=1", ASAN_OPTIONS="detect_stack_use_after_return=0")
    log = folder / "logs" / f"{name}.log"
    begin = time.monotonic()
    with open(log, "wb") as out:
        status = subprocess.run([str(word) for word in command], stdout=out, stderr=out, env=environment).returncode
    seconds = time.monotonic() - begin
    text = log.read_text(encoding="utf-8", errors="replace")
    counted = re.search(r"stat::number_of_executed_units: *(\d+)", text)
    last = re.findall(r"^#(\d+)\t", text, re.MULTILINE)
    executions = int(counted.group(1)) if counted else int(last[-1]) if last else 0
    new = sorted(path for path in set(findings.iterdir()) - before if path.name.startswith(f"{name}-"))
    if status != 0 and not new:
        new = [log]  # it ended for another reason, for instance because it could not start
    return {"target": name, "executions": executions, "seconds": seconds, "findings": new, "log": log}


def main():
    options = arguments()
    folder = options.folder.resolve()
    subprocess.run([sys.executable, ROOT / "tests" / "fuzz" / "make_seeds.py", folder / "seeds"], check=True)
    names = targets_of(folder, options.targets)
    with concurrent.futures.ThreadPoolExecutor(max(1, options.jobs)) as pool:
        rows = list(pool.map(lambda name: run(name, folder, options), names))
    print(f"{'target':<18} {'executions':>12} {'per second':>11} {'findings':>9}")
    for row in rows:
        rate = row["executions"] / row["seconds"]
        print(f"{row['target']:<18} {row['executions']:>12} {rate:>11.0f} {len(row['findings']):>9}")
    for row in rows:
        for path in row["findings"]:
            print(f"{row['target']}: {path} (what happened: {row['log']})")
    return 1 if any(row["findings"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
