#!/usr/bin/env python3
"""Checks that each class of a header under src/ says which threads may use it.

The word `thread` must be in the comment before the class, or in the comment at the top of the file. Structs, which hold
data, and exceptions need no such line. Prints one line per class without it, and ends with status 1 if there is any.
"""

import argparse
import re
import sys
from pathlib import Path

CLASS = re.compile(r"^((?:///[^\n]*\n)*)(?:template[^\n]*\n)?class (\w+)(?: final)?([^;{]*)\{", re.MULTILINE)
EXCEPTION = re.compile(r"\b(Error|std::runtime_error)\b")
HEADERS = (".h", ".cuh")


def silent_classes(text):
    """(line, name) of each class that does not say it."""
    top = text[: text.find("#include")] if "#include" in text else ""
    if "thread" in top.lower():
        return []
    return [
        (text.count("\n", 0, found.start(2)) + 1, found[2])
        for found in CLASS.finditer(text)
        if "thread" not in found[1].lower() and not EXCEPTION.search(found[3])
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help="the repository")
    root = parser.parse_args().root
    mistakes = []
    headers = [file for file in sorted((root / "src").rglob("*")) if file.suffix in HEADERS]
    for file in headers:
        for line, name in silent_classes(file.read_text()):
            mistakes.append(f"{file.relative_to(root)}:{line}: {name} does not say which threads may use it")
    print("\n".join(mistakes + [f"{len(headers)} headers, {len(mistakes)} classes that do not say it"]))
    sys.exit(1 if mistakes else 0)


if __name__ == "__main__":
    main()
