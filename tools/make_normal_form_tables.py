#!/usr/bin/env python3
"""Makes src/tokenizer/normal_form_data.cpp: what the normal forms NFC, NFD, NFKC and NFKD need to know of each character.

    python3 -m venv build/unicode-venv
    build/unicode-venv/bin/pip install --requirement tools/requirements-unicode.txt
    build/unicode-venv/bin/python tools/make_normal_form_tables.py > src/tokenizer/normal_form_data.cpp

The version is that of the normalizers in the `tokenizers` library which the ids must equal (0.23.3): Unicode 9. A character
that was added later has no decomposition there and the combining class 0. Normal forms of older characters never change
(Unicode's stability policy), so a newer database tells them; unicode-age tells which characters are older. The test
tokenizer_normal_forms compares every code point with the library.
"""

import importlib.metadata
import sys

import unicode_age
import unicodedata2

sys.dont_write_bytecode = True
from make_unicode_tables import print_list  # noqa: E402

DATABASE = "16.0.0"
VERSION = (9, 0)
HANGUL = range(0xAC00, 0xD7A4)  # computed, not listed


def is_known(code):
    try:
        return unicode_age.version(code) <= VERSION
    except ValueError:  # not assigned
        return False


def class_ranges(known):
    """(first, last, combining class) of the characters whose class is not 0."""
    found = []
    for code in known:
        value = unicodedata2.combining(chr(code))
        if value == 0:
            continue
        if found and found[-1][1] + 1 == code and found[-1][2] == value:
            found[-1][1] = code
        else:
            found.append([code, code, value])
    return found


def decompositions(known, form):
    """(code, whole decomposition) of the characters that have one."""
    found = []
    for code in known:
        if code in HANGUL:
            continue
        whole = unicodedata2.normalize(form, chr(code))
        if whole != chr(code):
            found.append((code, [ord(c) for c in whole]))
    return found


def compositions(known):
    """(first, second, composed), without those that Unicode excludes."""
    found = []
    for code in known:
        parts = unicodedata2.decomposition(chr(code)).split()
        if code in HANGUL or len(parts) != 2 or parts[0].startswith("<"):
            continue
        if unicodedata2.normalize("NFC", chr(code)) == chr(code):
            found.append((int(parts[0], 16), int(parts[1], 16), code))
    return sorted(found)


def print_decompositions(name, pool, table):
    entries = []
    for code, whole in table:
        entries.append(f"{{0x{code:X}, {len(pool)}, {len(whole)}}}")
        pool += whole
    print_list(f"Decomposition {name}[]", entries)


def main():
    if unicodedata2.unidata_version != DATABASE:
        sys.exit(f"unicodedata2 has Unicode {unicodedata2.unidata_version}, expected {DATABASE}")
    known = [code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF and is_known(code)]
    canonical = decompositions(known, "NFD")
    same = dict(canonical)
    compatible = [(code, whole) for code, whole in decompositions(known, "NFKD") if same.get(code) != whole]
    version = ".".join(map(str, VERSION))
    print(f"// Made by tools/make_normal_form_tables.py, for the characters of Unicode {version}: unicodedata2 {DATABASE},")
    print(f"// unicode-age {importlib.metadata.version('unicode-age')}. Do not change it by hand.")
    print('\n// clang-format off\n#include "tokenizer/normal_form_data.h"\n\nnamespace moe::unicode {\nnamespace {')
    print_list("CombiningClass kClasses[]", [f"{{0x{a:X}, 0x{b:X}, {value}}}" for a, b, value in class_ranges(known)])
    pool = []
    print_decompositions("kCanonical", pool, canonical)
    print_decompositions("kCompatible", pool, compatible)
    print_list("char32_t kParts[]", [f"0x{code:X}" for code in pool])
    print_list("Composition kCompositions[]", [f"{{0x{a:X}, 0x{b:X}, 0x{c:X}}}" for a, b, c in compositions(known)])
    print("\n}  // namespace\n")
    for function, kind, variable in (("combining_classes", "CombiningClass", "kClasses"),
                                     ("canonical_decompositions", "Decomposition", "kCanonical"),
                                     ("compatible_decompositions", "Decomposition", "kCompatible"),
                                     ("decomposed_parts", "char32_t", "kParts"), ("compositions", "Composition", "kCompositions")):
        print(f"std::span<const {kind}> {function}() {{ return {variable}; }}")
    print("\n}  // namespace moe::unicode")


if __name__ == "__main__":
    main()
