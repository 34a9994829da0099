#!/usr/bin/env python3
"""Compares `moe tokenizer apply-template` with jinja2 on small templates: snippets.py's and generated ones.

  compare_snippets.py --moe build/moe [--venv build/venv] [--generated 300] [--seed 1] [--jobs 2]

What jinja2 renders is put together, many to a template, to be rendered by ours at once; what it refuses is given to ours one
by one. Exit status 77 (a skip for CTest) where jinja2 is missing.
"""

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from compare_templates import ours, use_python_with

TOGETHER = 40
BETWEEN = "\x1e"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--moe", required=True)
    parser.add_argument("--venv")
    parser.add_argument("--generated", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    use_python_with(["jinja2"], arguments.venv, "`make venv`")
    from render_reference import render
    from snippets import BLOCKS, REFUSED, VARIABLES, expressions, generated

    printed = ["{{ " + each + " }}" for each in expressions()]
    made = generated(arguments.generated, arguments.seed)
    references = {source: render(source, VARIABLES) for source in printed + BLOCKS + REFUSED + made}
    for source in printed + BLOCKS:
        if references[source][0] is None:
            sys.exit(f"{source!r} was to be rendered, and jinja2 refuses it: {references[source][1]}")
    for source in REFUSED:
        if references[source][0] is not None:
            sys.exit(f"{source!r} was to be refused, and jinja2 gives {references[source][0]!r}")

    with tempfile.TemporaryDirectory() as folder:

        def ours_of(index_and_source):
            index, source = index_and_source
            template = Path(folder) / f"{index}.jinja"
            template.write_bytes(source.encode())
            return ours(arguments.moe, template, VARIABLES, folder, str(index))

        # A plain print ends in no white space that its neighbour could take, so many of them share a template.
        simple = [s for s in references if s.startswith("{{ ") and s.endswith(" }}") and s.count("{{") == 1
                  and references[s][0] is not None and "-}}" not in s]
        groups = [simple[i:i + TOGETHER] for i in range(0, len(simple), TOGETHER)]
        alone = [s for s in references if s not in set(simple)]
        jobs = [BETWEEN.join(group) for group in groups] + alone
        with ThreadPoolExecutor(arguments.jobs) as pool:
            results = list(pool.map(ours_of, enumerate(jobs)))
        answers = dict(zip(alone, results[len(groups):]))
        for group, (text, why) in zip(groups, results):
            parts = [] if text is None else text.split(BETWEEN)
            if len(parts) == len(group):
                answers.update((source, (part, None)) for source, part in zip(group, parts))
            else:  # one of them fails: each by itself says which
                answers.update((source, ours_of((f"alone{i}", source))) for i, source in enumerate(group))

    wrong = 0
    for source, (expected, why) in references.items():
        text, reason = answers[source]
        if text == expected or (expected is not None and " at 0x" in expected.lower()):  # an address is never the same
            continue
        wrong += 1
        print(f"{source!r}\n  jinja2: {expected!r} {why or ''}\n  ours:   {text!r} {reason or ''}")
    refused = sum(expected is None for expected, _ in references.values())
    print(f"{len(references) - wrong} of {len(references)} equal, {refused} of them refused by jinja2")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
