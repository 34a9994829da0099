#!/usr/bin/env python3
"""Makes src/tokenizer/grapheme_data.cpp: where user-perceived characters (extended grapheme clusters, UAX 29) may break.

    python3 -m venv build/grapheme-venv
    build/grapheme-venv/bin/pip install regex==2026.11.19 unicode-age==18.0.0.0
    build/grapheme-venv/bin/python tools/make_grapheme_tables.py > src/tokenizer/grapheme_data.cpp

The Unicode version is that of the `tokenizers` library (0.23.3), whose normalizer Precompiled cuts text in this way: 17. The
package regex has the properties of 18, so characters that came with 18 are left out. The test tokenizer_unigram compares every
pair of an ASCII letter and another character with the library.
"""

import regex
import unicode_age

LAST_VERSION = (17, 0)
# In the order of GraphemeBreak (src/tokenizer/grapheme_data.h); its other values are bits.
BREAKS = ("CR", "LF", "Control", "Extend", "ZWJ", "RI", "Prepend", "SpacingMark", "L", "V", "T")
SYLLABLE = len(BREAKS) + 1
PICTOGRAPH = 0x10
CONJUNCTS = {"Consonant": 0x20, "Extend": 0x40, "Linker": 0x80}
TEXT = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF)


def members(expression):
    return [ord(c) for c in regex.findall(expression, TEXT)]


def main():
    values = [0] * 0x110000
    for number, name in enumerate(BREAKS):
        for c in members(rf"\p{{GCB={name}}}"):
            values[c] = number + 1
    for c in members(r"[\p{GCB=LV}\p{GCB=LVT}]"):
        values[c] = SYLLABLE
    for c in members(r"\p{ExtPict}"):
        values[c] |= PICTOGRAPH
    for name, bit in CONJUNCTS.items():
        for c in members(rf"\p{{InCB={name}}}"):
            values[c] |= bit
    for first, last, *version in unicode_age.iter_spans():
        if tuple(version) > LAST_VERSION:
            values[first : last + 1] = [0] * (last + 1 - first)
    runs = [c << 8 | values[c] for c in range(0x110000) if c == 0 or values[c] != values[c - 1]]
    print("// Made by tools/make_grapheme_tables.py. Do not edit.\n")
    print('#include "tokenizer/grapheme_data.h"\n')
    print("namespace moe::unicode {\nnamespace {\n\nconst uint32_t kRuns[] = {")
    for begin in range(0, len(runs), 10):
        print("    " + ", ".join(f"0x{run:X}" for run in runs[begin : begin + 10]) + ",")
    print("};\n\n}  // namespace\n\nstd::span<const uint32_t> grapheme_runs() { return kRuns; }\n\n}  // namespace moe::unicode")


if __name__ == "__main__":
    main()
