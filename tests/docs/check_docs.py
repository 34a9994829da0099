#!/usr/bin/env python3
"""Every path and test of this repository that README.md, CHANGELOG.md or docs/*.md names in backticks or links to exists.

A word counts as such a path when it starts with one of the repository's top folders (or is the name of a file at its root
with a known ending), and holds no blank. `src/ops/*.h` must match something; `tests/<layer>/`, `step-N/` and the like are
patterns and pass. An anchor or line number after the path is ignored. `Suite.Name` is a GoogleTest of tests/, `test_name` a
method of a Python script there. With --root, another tree is checked.
"""

import argparse
import re
import sys
from pathlib import Path

TOP = ("src", "tests", "bench", "tools", "configs", "docs", "cmake", ".ci")
INCLUDE_ROOT = "src"
ROOT_FILE = re.compile(r"(Makefile|CMakeLists\.txt|CMakePresets\.json|[A-Za-z_]+\.md|\.clang-(format|tidy)|\.gitignore)")
PATTERN = re.compile(r"[<>{}$…]|\.\.\.|\bNAME\b|\bN\b")
CPP_TEST = re.compile(r"[A-Z][A-Za-z0-9]*\.[A-Z][A-Za-z0-9]*")
PYTHON_TEST = re.compile(r"test_[a-z0-9_]+")
SOURCE = re.compile(r"[a-z_0-9]+(/[a-z_0-9]+)+\.(h|cpp|cu|cuh)")


def words_of(line):
    """What a line of Markdown sets in backticks, or links to inside the repository."""
    for word in re.findall(r"`([^`\s]+)`", line):
        yield word, False
    for word in re.findall(r"\]\(([^)\s]+)\)", line):
        if not re.match(r"[a-z]+:|#", word):
            yield word, True


def candidates(root, document, word, is_link):
    """Where a word may point, or nothing if it does not look like a path of this repository."""
    word = re.sub(r"(:\d+|#.*)$", "", word).rstrip(".,;")
    if is_link:
        return [document.parent / word]
    if PATTERN.search(word):
        return []
    if word.split("/")[0] in TOP and "/" in word or ROOT_FILE.fullmatch(word):
        return [root / word]
    if SOURCE.fullmatch(word):
        return [root / INCLUDE_ROOT / word, root / word]
    return []


def exists(path):
    if "*" in path.name:
        return path.parent.is_dir() and any(path.parent.glob(path.name))
    return path.exists()


def tests_of(root):
    """The names of all tests below tests/, as documents write them."""
    names = set()
    for path in (root / "tests").rglob("*.cpp"):
        for suite, name in re.findall(r"^(?:TYPED_)?TEST(?:_[FP])?\((\w+),\s*(\w+)\)", path.read_text(encoding="utf-8"), re.MULTILINE):
            names.add(f"{suite}.{name}")
    for path in (root / "tests").rglob("*.py"):
        names.update(re.findall(r"^ +def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    return names


def check(root):
    """Every name that points nowhere, one line each, and the number of names looked at."""
    root = Path(root).resolve()
    documents = [root / name for name in ("README.md", "CHANGELOG.md") if (root / name).is_file()]
    documents += sorted((root / "docs").rglob("*.md"))
    mistakes, seen, tests = [], 0, tests_of(root)
    for document in documents:
        for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
            for word, is_link in words_of(line):
                if CPP_TEST.fullmatch(word) or PYTHON_TEST.fullmatch(word):
                    seen += 1
                    if word not in tests:
                        mistakes.append(f"{document.relative_to(root)}:{number}: there is no test {word}")
                    continue
                places = candidates(root, document, word, is_link)
                seen += bool(places)
                if places and not any(exists(place) for place in places):
                    mistakes.append(f"{document.relative_to(root)}:{number}: there is no {word}")
    return mistakes, seen


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default=Path(__file__).resolve().parents[2], help="the repository to check")
    mistakes, seen = check(parser.parse_args().root)
    for mistake in mistakes:
        print(mistake)
    print(f"{seen} paths and tests, {len(mistakes)} that point nowhere")
    return 1 if mistakes or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
