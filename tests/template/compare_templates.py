#!/usr/bin/env python3
"""Compares `moe tokenizer apply-template` with jinja2 on published chat templates.

  compare_templates.py --moe build/moe --shared ../shared [--venv build/venv] [--jobs 4] [--show]

Every template of ../shared/data/templates is filled in with the five conversations of contexts.py, and then with more of
them. Ours must give the same text, and refuse where jinja2 refuses. Exit status 77 (a skip for CTest) where jinja2 or the
templates are missing.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from python_packages import skip, use_python_with  # noqa: E402


def ours(moe, template, variables, folder, name):
    """Our text, or None and our sentence; anything but these two is an error of the test."""
    file = Path(folder) / f"{name}.json"
    file.write_text(json.dumps(variables, ensure_ascii=False), encoding="utf-8")
    run = subprocess.run([moe, "tokenizer", "apply-template", "--template", template, "--variables", file],
                         capture_output=True, timeout=120)
    if run.returncode == 0:
        return run.stdout.decode(), None
    why = run.stderr.decode().strip()
    if run.returncode != 1 or not why:
        sys.exit(f"{template}, {name}: exit status {run.returncode}: {why}")
    return None, why


def without_times(text):
    """Without clock times, which the two programs may see in different seconds."""
    return text and re.sub(r"\d\d:\d\d(:\d\d)?", "TIME", text)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--moe", required=True)
    parser.add_argument("--shared", required=True, type=Path)
    parser.add_argument("--venv")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="print both texts where they differ")
    arguments = parser.parse_args()
    use_python_with(["jinja2"], arguments.venv, "`make venv`")
    from contexts import CONTEXTS, MORE_CONTEXTS, TOKENS
    from render_reference import render

    templates = sorted((arguments.shared / "data" / "templates").glob("*.jinja"))
    if not templates:
        skip(f"there are no templates in {arguments.shared}/data/templates")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for title, contexts in (("the five conversations", CONTEXTS), ("more conversations", MORE_CONTEXTS)):
            jobs = [(template, name, {**TOKENS, **context}) for template in templates for name, context in contexts.items()]

            def compare(job):
                template, name, variables = job
                expected, why = render(template.read_text(encoding="utf-8"), variables)
                text, reason = ours(arguments.moe, template, variables, folder, f"{template.stem}-{name}")
                return job, expected, why, text, reason

            with ThreadPoolExecutor(arguments.jobs) as pool:
                results = list(pool.map(compare, jobs))
            equal = refused = 0
            for (template, name, _), expected, why, text, reason in results:
                if without_times(expected) == without_times(text):
                    equal += 1
                    refused += expected is None
                    continue
                print(f"{template.name}, {name}: " + (
                    f"jinja2 refuses ({why}), ours does not" if expected is None else
                    f"ours refuses: {reason}" if text is None else "the texts differ"))
                if arguments.show:
                    print(f"--- jinja2\n{expected}\n--- ours\n{text}\n---")
            failed += len(results) - equal
            print(f"{title}: {equal} of {len(results)} equal, {refused} of them refused by both")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
