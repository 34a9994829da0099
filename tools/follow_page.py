#!/usr/bin/env python3
"""Runs the commands of a page of docs/ in order, as a reader does who copies them, and stops at the first that fails.

    tools/follow_page.py docs/tutorial-laptop.md [--from N] [--list]

A command is a line of an indented block that begins with "$ ". It goes on in the next line after a backslash, and to the
closing word after <<'WORD'. Each runs in its own bash, in the current folder. What the page says about the exit status counts:
"# exit status 143" behind a command.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

INDENT = "    "
STATUS = re.compile(r"#.*exit status (\d+)")


def commands_of(text):
    """[(number of the first line, command)] of a page, without indentation and "$ "."""
    found, lines = [], text.splitlines()
    at = 0
    while at < len(lines):
        first = at
        at += 1
        if not lines[first].startswith(INDENT + "$ "):
            continue
        command = lines[first][len(INDENT) + 2:]
        here = re.search(r"<<'(\w+)'", command)
        while at < len(lines) and (command.endswith("\\") or here):
            line = lines[at].removeprefix(INDENT)
            command += "\n" + line
            at += 1
            if here and line == here[1]:
                break
        found.append((first + 1, command))
    return found


def expected_status(command):
    said = STATUS.search(command)
    return int(said[1]) if said else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--from", dest="start", type=int, default=1, help="begin with this command, from 1")
    parser.add_argument("--list", action="store_true", help="only print the commands")
    options = parser.parse_args()
    commands = commands_of(options.page.read_text(encoding="utf-8"))
    if not commands:
        sys.exit(f"{options.page}: no command begins with \"{INDENT}$ \"")
    for number, (line, command) in enumerate(commands[options.start - 1:], options.start):
        print(f"\n[{number}] {options.page.name}:{line}: $ {command}", flush=True)
        if options.list:
            continue
        began = time.monotonic()
        status = subprocess.run(["bash", "-c", command], stdin=subprocess.DEVNULL).returncode
        status = 128 - status if status < 0 else status
        print(f"[{number}] exit status {status} after {time.monotonic() - began:.0f} s", flush=True)
        if status != expected_status(command):
            sys.exit(f"{options.page}:{line}: expected exit status {expected_status(command)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
