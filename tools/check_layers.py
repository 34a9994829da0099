#!/usr/bin/env python3
"""Compares every #include "..." under src/, tests/ and bench/ with docs/layers.txt, which says what the rules mean.

Also refuses products of the contract in src/nn/ outside nn/linear: a product of a weight goes through one linear map.

Prints one line per mistake, FILE:LINE: what is wrong, and ends with status 1 if there is any.
"""

import argparse
import re
import sys
from pathlib import Path

SOURCES = {".h", ".hpp", ".cpp", ".cc", ".cu", ".cuh", ".inc"}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')
OUTSIDE_SRC = ("tests", "bench")
PRODUCT = re.compile(r"\b(Gemm|GroupedGemm|GroupedGemmReduce)\s*\{")
LINEAR = "src/nn/linear."


class Layers:
    """The table: folder -> layer, folder -> folders it may include."""

    def __init__(self, path):
        self.level, self.allowed, self.mistakes = {}, {}, []
        rows = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            words = line.split("#")[0].split()
            if not words:
                continue
            if len(words) < 3 or not words[1].isdigit():
                self.mistakes.append(f"{path}:{number}: a line needs a folder, a layer number and what it may include")
            elif words[0] in self.level:
                self.mistakes.append(f"{path}:{number}: {words[0]} is listed twice")
            else:
                self.level[words[0]] = int(words[1])
                rows.append((number, words[0], words[2:]))
        for number, folder, words in rows:
            self.allowed[folder] = set()
            for word in words:
                self._allow(f"{path}:{number}", folder, word)

    def _allow(self, place, folder, word):
        below = {name for name, level in self.level.items() if level < self.level[folder]}
        span = re.fullmatch(r"(\d+)-(\d+)", word)
        if word == "nothing":
            return
        if word == "everything":
            self.allowed[folder] |= below
        elif word == "below":
            self.allowed[folder] |= {name for name in below if not name.startswith("backend/")}
        elif span:
            low, high = int(span[1]), int(span[2])
            if high >= self.level[folder]:
                self.mistakes.append(f"{place}: {folder} is of layer {self.level[folder]} and may not include layer {high}")
            self.allowed[folder] |= {name for name in below if low <= self.level[name] <= high}
        elif word not in self.level:
            self.mistakes.append(f"{place}: {folder} may include {word}, which has no line of its own")
        elif word not in below:
            self.mistakes.append(f"{place}: {folder} may include {word}, which is not of a lower layer")
        else:
            self.allowed[folder].add(word)

    def owner(self, path):
        """The listed folder that holds this path (relative to src/, or starting with tests/ or bench/), or None."""
        parts = path.split("/")[:-1]
        for length in range(len(parts), 0, -1):
            if "/".join(parts[:length]) in self.level:
                return "/".join(parts[:length])
        return None


def resolve(root, file, name):
    """What an include names, relative to src/ (or tests/..., bench/...), or None if there is no such file."""
    for base in (file.parent, root / "src", root):
        target = Path(base / name).resolve()
        if target.is_file() and target.is_relative_to(root):
            path = target.relative_to(root).as_posix()
            return path.removeprefix("src/")
    return None


def check_file(root, layers, file):
    path = file.relative_to(root).as_posix()
    folder = layers.owner(path.removeprefix("src/"))
    if folder is None:
        return [f"{path}:1: this folder has no line in docs/layers.txt"]
    mistakes = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        product = PRODUCT.search(line)
        if product and path.startswith("src/nn/") and not path.startswith(LINEAR):
            mistakes.append(f"{path}:{number}: {product[1]} in nn/ is made by nn/linear.h alone; use its functions")
        include = INCLUDE.match(line)
        if not include:
            continue
        target = resolve(root, file, include[1])
        if target is None:
            mistakes.append(f'{path}:{number}: "{include[1]}" is no file of this repository; use <...> for a library')
            continue
        other = layers.owner(target)
        if other is None:
            mistakes.append(f'{path}:{number}: "{include[1]}" lies in a folder without a line in docs/layers.txt')
        elif other != folder and other not in layers.allowed[folder]:
            mistakes.append(
                f"{path}:{number}: {folder} (layer {layers.level[folder]}) may not include {other} "
                f"(layer {layers.level[other]}); docs/layers.txt lists what it may"
            )
    return mistakes


def check(root):
    """Every mistake of a repository, one line each, and the number of files read."""
    root = Path(root).resolve()
    layers = Layers(root / "docs" / "layers.txt")
    mistakes = [mistake.removeprefix(f"{root}/") for mistake in layers.mistakes]
    files = [
        file
        for top in ("src", *OUTSIDE_SRC)
        for file in sorted((root / top).rglob("*"))
        if file.suffix in SOURCES and file.is_file()
    ]
    for file in files:
        mistakes += check_file(root, layers, file)
    return mistakes, len(files)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default=Path(__file__).resolve().parent.parent, help="the repository to check")
    mistakes, files = check(parser.parse_args().root)
    for mistake in mistakes:
        print(mistake)
    print(f"{files} files, {len(mistakes)} mistakes")
    return 1 if mistakes or not files else 0


if __name__ == "__main__":
    sys.exit(main())
