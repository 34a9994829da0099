#!/usr/bin/env python3
"""Makes src/tokenizer/unicode_data.cpp: the character classes that tokenizers are matched with.

    python3 -m venv build/unicode-venv
    build/unicode-venv/bin/pip install --requirement tools/requirements-unicode.txt
    build/unicode-venv/bin/pip install --target build/unicode-17 unicodedata2==17.0.0
    build/unicode-venv/bin/python tools/make_unicode_tables.py build/unicode-17 > src/tokenizer/unicode_data.cpp

The versions are those of the `tokenizers` library which the ids must equal (0.23.3, tools/requirements-test.txt). Its
expressions (Oniguruma) and its step Whitespace (Rust's regular expressions) have Unicode 16, its step Digits (Rust's standard
library) has 17, its step Punctuation has 8. The test tokenizer_code_points compares every code point with it.

General categories come from the package unicodedata2, which tells its Unicode version; the other properties and the scripts
from the package regex, which does not: its general categories must therefore equal those of unicodedata2 for every code point.
"""

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import regex
import unicode_age
import unicodedata2

VERSION = "16.0.0"
CATEGORIES = ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co Cn").split()
CODE_POINTS = range(0x110000)
ALL = [chr(c) for c in CODE_POINTS if not 0xD800 <= c <= 0xDFFF]
TEXT = "".join(ALL)
DIGITS_VERSION = "17.0.0"
PUNCTUATION_AGE = (8, 0)
# Punctuation of Unicode 8 that has another category now: CANADIAN SYLLABICS CHI SIGN (So since 12), SHARADA SANDHI MARK
# (Mn since 11).
FORMER_PUNCTUATION = {0x166D, 0x111C9}


def members(expression):
    return {ord(c) for c in regex.findall(expression, TEXT)}


def load(folder):
    """The package unicodedata2 of another version, out of the folder it was installed into."""
    path = next(Path(folder).glob("unicodedata2*.so"))
    spec = importlib.util.spec_from_file_location("unicodedata2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ranges(numbers):
    found = []
    for number in sorted(numbers):
        if found and found[-1][1] + 1 == number:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def runs(value_of):
    """(first code point, value) wherever the value changes."""
    found = []
    for c in CODE_POINTS:
        value = value_of(c)
        if not found or found[-1][1] != value:
            found.append((c, value))
    return found


def script_names():
    """All names of each script, the first of them long."""
    by_value = {}
    for name, value in regex._regex_core.PROPERTIES["SCRIPT"][1].items():
        by_value.setdefault(value, []).append(name)
    return [by_value[value] for value in sorted(by_value)]


def print_list(declaration, items):
    print(f"\nconst {declaration} = {{")
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > 120:
            print(line)
            line = "   "
        line += f" {item},"
    print(line)
    print("};")



def main():
    if unicodedata2.unidata_version != VERSION:
        sys.exit(f"unicodedata2 has Unicode {unicodedata2.unidata_version}, expected {VERSION}")
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    category = [unicodedata2.category(chr(c)) for c in CODE_POINTS]
    by_category = {name: {ord(c) for c in ALL if category[ord(c)] == name} for name in CATEGORIES if name != "Cs"}
    for name, expected in by_category.items():
        if members(rf"\p{{gc={name}}}") != expected:
            sys.exit(f"the packages regex and unicodedata2 differ in the category {name}")
    of = lambda *names: set().union(*(by_category[name] for name in names))
    properties = {
        "kOtherAlphabetic": members(r"\p{Alphabetic}") - of("Lu", "Ll", "Lt", "Lm", "Lo", "Nl"),
        "kOtherLowercase": members(r"\p{Lowercase}") - of("Ll"),
        "kOtherUppercase": members(r"\p{Uppercase}") - of("Lu"),
        "kIdeographic": members(r"\p{Ideographic}"),
    }
    punctuation = of("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po")
    properties["kStepPunctuation"] = {c for c in punctuation if unicode_age.version(c) <= PUNCTUATION_AGE} | FORMER_PUNCTUATION
    newer = load(sys.argv[1])
    if newer.unidata_version != DIGITS_VERSION:
        sys.exit(f"{sys.argv[1]} has Unicode {newer.unidata_version}, expected {DIGITS_VERSION}")
    properties["kStepDigits"] = {ord(c) for c in ALL if newer.category(c)[0] == "N"}
    names = script_names()
    script = [0] * len(CODE_POINTS)
    for index, aliases in enumerate(names):
        for c in members(rf"\p{{sc={aliases[0]}}}"):
            script[c] = index

    print(f"// Made by tools/make_unicode_tables.py from Unicode {VERSION}: unicodedata2 {VERSION}, regex {importlib.metadata.version('regex')},")
    print(f"// unicode-age {importlib.metadata.version('unicode-age')}; digits of Unicode {DIGITS_VERSION}. Do not change it by hand.")
    print('\n// clang-format off\n#include "tokenizer/unicode_data.h"\n\nnamespace moe::unicode {\nnamespace {')
    position = {name: index for index, name in enumerate(CATEGORIES)}
    print("\n// Code point << 8 | category, where the category changes.")
    print_list("uint32_t kCategories[]", [f"0x{c << 8 | position[value]:X}" for c, value in runs(category.__getitem__)])
    for name, numbers in properties.items():
        print_list(f"CodePointRange {name}[]", [f"{{0x{first:X}, 0x{last:X}}}" for first, last in ranges(numbers)])
    print("\n// Code point << 8 | script, where the script changes.")
    print_list("uint32_t kScripts[]", [f"0x{c << 8 | value:X}" for c, value in runs(script.__getitem__)])
    spelled = [(name.lower().replace("_", ""), index) for index, aliases in enumerate(names) for name in aliases]
    print_list("ScriptName kScriptNames[]", [f'{{"{name}", {index}}}' for name, index in spelled])
    print("\n}  // namespace\n")
    print(f'std::string_view version() {{ return "{VERSION}"; }}')
    for function, type_name, variable in (
        ("category_runs", "uint32_t", "kCategories"), ("other_alphabetic", "CodePointRange", "kOtherAlphabetic"),
        ("other_lowercase", "CodePointRange", "kOtherLowercase"), ("other_uppercase", "CodePointRange", "kOtherUppercase"),
        ("ideographic", "CodePointRange", "kIdeographic"), ("step_punctuation", "CodePointRange", "kStepPunctuation"),
        ("step_digits", "CodePointRange", "kStepDigits"),
        ("script_runs", "uint32_t", "kScripts"),
        ("script_names", "ScriptName", "kScriptNames"),
    ):
        print(f"std::span<const {type_name}> {function}() {{ return {variable}; }}")
    print("\n}  // namespace moe::unicode")


if __name__ == "__main__":
    main()
