#!/usr/bin/env python3
"""Compares every source under src/, tests/ and bench/ with .clang-format; --fix formats them instead.

Prints one line per file that differs, and ends with status 1 if there is any. Without clang-format, or with another
version than the one that the sources are formatted by (versions differ in details), it prints why it is skipped.
"""

import argparse
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True
from check_layers import OUTSIDE_SRC, SOURCES  # noqa: E402

VERSION = 14


def why_not(tool):
    """Why the sources cannot be compared, in one sentence; empty if they can be."""
    if tool is None:
        return "there is no clang-format; tools/install_dependencies.sh format installs it"
    text = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"version (\d+)", text)
    if found is None or int(found[1]) != VERSION:
        return f"{tool} is of version {found[1] if found else '?'}, and the sources are formatted by version {VERSION}"
    return ""


def sources(root):
    return [
        file.relative_to(root).as_posix()
        for top in ("src", *OUTSIDE_SRC)
        for file in sorted((root / top).rglob("*"))
        if file.suffix in SOURCES and file.is_file()
    ]


def differing(tool, root, files):
    """The files that clang-format would change. One process reads several: starting it takes longer than a file."""

    def of_part(part):
        done = subprocess.run([tool, "--dry-run", "--Werror", *part], cwd=root, capture_output=True, text=True)
        named = {line.split(":")[0] for line in done.stderr.splitlines() if ": error: " in line}
        if done.returncode != 0 and not named:
            raise SystemExit(f"{tool} failed: {done.stderr.strip()}")
        return [file for file in part if file in named]

    parts = [files[begin:begin + 32] for begin in range(0, len(files), 32)]
    with ThreadPoolExecutor() as pool:
        return [file for bad in pool.map(of_part, parts) for file in bad]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help="the repository")
    parser.add_argument("--fix", action="store_true", help="format the sources")
    arguments = parser.parse_args()
    tool = shutil.which("clang-format")
    if reason := why_not(tool):
        print(f"[  SKIPPED ] {reason}")
        return 1 if arguments.fix else 0
    files = sources(arguments.root.resolve())
    if arguments.fix:
        return subprocess.run([tool, "-i", *files], cwd=arguments.root).returncode
    bad = differing(tool, arguments.root, files)
    for file in bad:
        print(f"{file}: not formatted; run `make format`")
    print(f"{len(files)} files, {len(bad)} to format")
    return 1 if bad or not files else 0


if __name__ == "__main__":
    sys.exit(main())
