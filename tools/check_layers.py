#!/usr/bin/env python3
"""Compares every #include "..." under src/, tests/ and bench/ with docs/layers.txt, which says what the rules mean.

Also refuses products of the contract in src/nn/ outside nn/linear and nn/adapter: a product of a weight goes through one
linear map, or its adapter.
It refuses comparisons with a routing method outside src/nn/routers/: the method's row says what it is.
It follows includes: a file must not reach a forbidden folder through an allowed one. It also refuses circles of rooms.
A room is a header with the source of the same name (x.h and x.cpp); a circle is rooms that include each other in turn.

Prints one line per mistake, FILE:LINE: what is wrong, and ends with status 1 if there is any.
"""

import argparse
import re
import sys
from pathlib import Path

SOURCES = {".h", ".hpp", ".cpp", ".cc", ".cu", ".cuh", ".inc", ".inl"}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')
OUTSIDE_SRC = ("tests", "bench")
OUTSIDE_SRC_FOLDERS = ("tests/", "bench/")
PRODUCT = re.compile(r"\b(Gemm|GroupedGemm|GroupedGemmReduce)\s*\{")
LINEAR = ("src/nn/linear.", "src/nn/adapter.")
ROUTING = re.compile(r"(?:[=!]=|\bcase)\s*RoutingMethod::\w+|RoutingMethod::\w+\s*[=!]=")
ROUTERS = "src/nn/routers/"


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


class Include:
    """One line of a file: what it names, relative to src/ (or tests/..., bench/...)."""

    def __init__(self, line, name, target):
        self.line, self.name, self.target = line, name, target


def includes_of(root, file):
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if include := INCLUDE.match(line):
            found.append(Include(number, include[1], resolve(root, file, include[1])))
    return found


def reached(path, includes, known):
    """The files that a file reaches through others, each with the file that included it first."""
    if path not in known:
        came_from, waiting = {}, [path]
        while waiting:
            file = waiting.pop(0)
            for include in includes.get(file, ()):
                if include.target is not None and include.target != path and include.target not in came_from:
                    came_from[include.target] = file
                    waiting.append(include.target)
        known[path] = came_from
    return known[path]


def way_to(file, came_from):
    """The files from the first include to `file`: "a.h, b.h"."""
    way = [file]
    while way[0] in came_from:
        way.insert(0, came_from[way[0]])
    return ", ".join(way)


def check_file(path, layers, includes, known):
    """Mistakes of the file's own lines, then the folders that it reaches through an allowed folder, each once."""
    name = path if path.startswith(OUTSIDE_SRC_FOLDERS) else f"src/{path}"
    folder = layers.owner(path)
    if folder is None:
        return [f"{name}:1: this folder has no line in docs/layers.txt"]
    mistakes, told = [], set()

    def allowed(other):
        return other == folder or other in layers.allowed[folder]

    for include in includes[path]:
        place = f"{name}:{include.line}"
        if include.target is None:
            mistakes.append(f'{place}: "{include.name}" is no file of this repository; use <...> for a library')
            continue
        other = layers.owner(include.target)
        if other is None:
            mistakes.append(f'{place}: "{include.name}" lies in a folder without a line in docs/layers.txt')
        elif not allowed(other):
            told.add(other)
            mistakes.append(
                f"{place}: {folder} (layer {layers.level[folder]}) may not include {other} "
                f"(layer {layers.level[other]}); docs/layers.txt lists what it may"
            )
    for include in includes[path]:
        entered = layers.owner(include.target) if include.target is not None else None
        if entered in (None, folder) or not allowed(entered):
            continue
        came_from = reached(include.target, includes, known)
        for file in came_from:
            other = layers.owner(file)
            if other is not None and other not in told and not allowed(other):
                told.add(other)
                mistakes.append(
                    f"{name}:{include.line}: {folder} (layer {layers.level[folder]}) may not include {other} (layer "
                    f"{layers.level[other]}), but reaches it through {way_to(file, came_from)}; docs/layers.txt lists "
                    "what it may"
                )
    return mistakes


def circles(links):
    """Groups of nodes that reach each other (Tarjan), each sorted; groups of one node are left out."""
    index, low, stack, on_stack, groups = {}, {}, [], set(), []

    def enter(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on_stack.add(node)
        return node, iter(sorted(links.get(node, ())))

    for start in sorted(links):
        work = [enter(start)] if start not in index else []
        while work:
            node, rest = work[-1]
            following = next(rest, None)
            if following is not None:
                if following not in index:
                    work.append(enter(following))
                elif following in on_stack:
                    low[node] = min(low[node], index[following])
                continue
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[node])
            if low[node] == index[node]:
                group = stack[stack.index(node):]
                del stack[stack.index(node):]
                on_stack.difference_update(group)
                if len(group) > 1:
                    groups.append(sorted(group))
    return sorted(groups)


def check_lines(root, files):
    """What only one place may do: products of weights, and asking for a routing method."""
    mistakes = []
    for file in files:
        path = file.relative_to(root).as_posix()
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if path.startswith("src/nn/") and not path.startswith(LINEAR) and (product := PRODUCT.search(line)):
                mistakes.append(f"{path}:{number}: {product[1]} in nn/ is made by nn/linear.h alone; use its functions")
            if path.startswith("src/") and not path.startswith(ROUTERS) and ROUTING.search(line):
                mistakes.append(f"{path}:{number}: asks for a routing method; ask its row (nn/routers/registry.h)")
    return mistakes


def check_rooms(includes):
    links = {}
    for path, lines in includes.items():
        room = path.rsplit(".", 1)[0]
        for include in lines:
            if include.target is not None and (other := include.target.rsplit(".", 1)[0]) != room:
                links.setdefault(room, set()).add(other)
    return [f"{group[0]}: these rooms include each other in a circle: {', '.join(group)}" for group in circles(links)]


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
    includes = {file.relative_to(root).as_posix().removeprefix("src/"): includes_of(root, file) for file in files}
    known = {}
    for path in includes:
        mistakes += check_file(path, layers, includes, known)
    return mistakes + check_lines(root, files) + check_rooms(includes), len(files)


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
