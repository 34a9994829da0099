#!/usr/bin/env python3
"""Checks that no two files give one name in one namespace to two classes.

A program with two such classes is wrong even where each file sees only one: the linker keeps one copy of each inline
function, for instance of the destructor, and uses it for objects of both. Compilers and linkers say nothing about it.
Classes in a namespace without a name belong to their file alone, so they may repeat. Each folder of tests/ is a program
by itself together with src/ and tests/support. Prints one line per name, and ends with status 1 if there is any.
"""

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

ENDINGS = (".h", ".cuh", ".cpp", ".cu")
NOT_CODE = re.compile(
    r"//[^\n]*|/\*.*?\*/|\bR\"(\w*)\(.*?\)\1\"|\"(?:\\.|[^\"\\\n])*\"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])*'|^[ \t]*#(?:\\\n|[^\n])*",
    re.DOTALL | re.MULTILINE)
OPENING = re.compile(r"^(?:inline\s+)?namespace(?:\s+([\w:]+))?\s*$")
CLASS = re.compile(r"^(?:typedef\s+)?(?:class|struct|union|enum(?:\s+(?:class|struct))?)\s+(?:alignas\([^)]*\)\s*|\[\[[^\]]*\]\]\s*)*"
                   r"((?:\w+::)*\w+(?:\s*<.*>)?)\s*(?:final\s*)?(?::(?!:).*)?$", re.DOTALL)
TEMPLATE = re.compile(r"^template\s*<")


def without_template(head):
    """The declaration after its `template <...>`."""
    while TEMPLATE.match(head):
        depth = 0
        for at, letter in enumerate(head):
            depth += (letter == "<") - (letter == ">" and head[at - 1] != "-")
            if letter == ">" and depth == 0:
                head = head[at + 1:].strip()
                break
        else:
            return ""
    return head


def classes(text):
    """(line, qualified name) of each class that is defined in a namespace which other files share."""
    code = NOT_CODE.sub(lambda found: "\n" * found[0].count("\n") or " ", text)
    found, rooms, start = [], [], 0  # rooms: the open braces; a namespace's name, or None for anything else
    for at, letter in enumerate(code):
        if letter == ";":
            start = at + 1
        elif letter == "{":
            head = " ".join(code[start:at].split())
            opening = OPENING.match(head)
            if opening:
                rooms.append(opening[1] or "")
            else:
                declared = CLASS.match(without_template(head))
                if declared and all(rooms):
                    line = code.count("\n", 0, start + len(code[start:at]) - len(code[start:at].lstrip())) + 1
                    found.append((line, "::".join(rooms + [declared[1].replace(" ", "")])))
                rooms.append(None)
            start = at + 1
        elif letter == "}":
            if rooms:
                rooms.pop()
            start = at + 1
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help="the repository")
    root = parser.parse_args().root

    def found_in(folder):
        places = defaultdict(list)
        for file in sorted(folder.rglob("*")):
            if file.suffix in ENDINGS:
                for line, name in classes(file.read_text()):
                    places[name].append(f"{file.relative_to(root)}:{line}")
        return places

    product, mistakes, names = found_in(root / "src"), {}, 0
    tests = [folder for folder in sorted((root / "tests").glob("*")) if folder.is_dir()]
    shared = found_in(root / "tests" / "support")
    for program in [{}] + [found_in(folder) for folder in tests if folder.name != "support"]:
        for name in {*product, *shared, *program}:
            places = product.get(name, []) + shared.get(name, []) + program.get(name, [])
            names += 1
            if len(places) > 1:
                mistakes[name] = f"{', '.join(places)}: {name} is defined {len(places)} times; give each class a name of its own"
    print("\n".join([mistakes[name] for name in sorted(mistakes)] + [f"{len(product)} names of src, {len(mistakes)} of them twice"]))
    sys.exit(1 if mistakes else 0)


if __name__ == "__main__":
    main()
