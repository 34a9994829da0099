#!/usr/bin/env python3
"""Looks for calls under src/ that throw what no user should read: the library's own words instead of a sentence.

- functions of std::filesystem without an error_code: base/paths.h has the questions, base/temporary.h the renames;
- std::stoi and its kind: std::from_chars, or formats/json.h;
- dump() and parse() of nlohmann-json: json_text(), json_shown() and parse_json() of formats/json.h.

Prints one line per mistake, FILE:LINE: what is wrong, and ends with status 1 if there is any.
"""

import pathlib
import re
import sys

# How many arguments the form has that throws.
THROWING = {
    1: "absolute canonical create_directories create_directory current_path directory_iterator exists file_size is_directory"
       " is_empty is_regular_file is_symlink last_write_time read_symlink recursive_directory_iterator remove remove_all space"
       " status symlink_status weakly_canonical",
    2: "copy copy_file create_directory_symlink create_hard_link create_symlink equivalent relative rename resize_file",
}
ARGUMENTS = {name: count for count, names in THROWING.items() for name in names.split()}
FS_CALL = re.compile(r"\b(?:std::filesystem|fs)::(\w+)(?:\s+\w+)?\(")
OTHERS = (
    (re.compile(r"\bstd::sto\w+\("), "use std::from_chars, or json_hexadecimal()", ()),
    (re.compile(r"\.dump\("), "use json_text() or json_shown()", ("formats/json.h",)),
    (re.compile(r"\b[Jj]son::parse\("), "use parse_json() or find_json_mistake()", ("formats/json.cpp",)),
)


def arguments(text, begin):
    """The number of arguments of the call whose parenthesis opens before `begin`."""
    depth, commas, empty = 1, 0, True
    for at in range(begin, len(text)):
        c = text[at]
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
            if depth == 0:
                return 0 if empty else commas + 1
        elif c == "," and depth == 1:
            commas += 1
        empty = empty and c.isspace()
    return 0


def mistakes_in(text, name):
    code = re.sub(r"//[^\n]*", "", text)  # keeps the lines' numbers
    found = []
    for match in FS_CALL.finditer(code):
        of_status = re.match(r"\s*fs::(symlink_)?status\(", code[match.end():]) is not None  # looks at no file itself
        if match[1] in ARGUMENTS and not of_status and arguments(code, match.end()) == ARGUMENTS[match[1]]:
            found.append((match.start(), f"fs::{match[1]} throws; use base/paths.h or give it an error_code"))
    for pattern, advice, allowed in OTHERS:
        if name not in allowed:
            found += [(match.start(), advice) for match in pattern.finditer(code)]
    return [f"src/{name}:{code.count(chr(10), 0, at) + 1}: {what}" for at, what in sorted(found)]


def main():
    source = pathlib.Path(__file__).resolve().parents[1] / "src"
    files = sorted(path for path in source.rglob("*") if path.suffix in (".cpp", ".h", ".cu", ".cuh"))
    mistakes = [line for path in files for line in mistakes_in(path.read_text(), str(path.relative_to(source)))]
    print("\n".join([*mistakes, f"{len(files)} files, {len(mistakes)} mistakes"]))
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
