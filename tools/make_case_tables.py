#!/usr/bin/env python3
"""Makes src/template/case_data.cpp, the letter cases that templates know: those of Python's str.

    python3 tools/make_case_tables.py > src/template/case_data.cpp

Letters whose case differs by the same number, and every first or second one of a stretch, share a run; letters whose other
case is several characters are listed by themselves.
"""

import sys
import unicodedata


def mappings(change):
    simple, special = [], []
    for code in range(0x110000):
        if 0xD800 <= code <= 0xDFFF:
            continue
        character = chr(code)
        changed = change(character)
        if changed == character:
            continue
        if len(changed) == 1:
            simple.append((code, ord(changed) - code))
        else:
            special.append((code, changed))
    return simple, special


def runs(simple):
    result = []
    for code, delta in simple:
        if result:
            first, last, step, run_delta = result[-1]
            gap = code - last
            if delta == run_delta and gap in (1, 2) and step in (0, gap):
                result[-1] = (first, code, gap, delta)
                continue
        result.append((code, code, 0, delta))
    return result


def ranges(members):
    result = []
    for code in members:
        if result and result[-1][1] + 1 == code:
            result[-1] = (result[-1][0], code)
        else:
            result.append((code, code))
    return result


def table(name, kind, rows):
    print(f"constexpr {kind} {name}[] = {{")
    line = "   "
    for row in rows:
        if len(line) + len(row) + 2 > 118:
            print(line)
            line = "   "
        line += " " + row + ","
    print(line)
    print("};")
    print()


def escaped(text):
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'


def main():
    print("// Made by tools/make_case_tables.py; do not edit.")
    print()
    print('#include "template/case_data.h"')
    print()
    print("namespace moe::jinja {")
    print("namespace {")
    print()
    # A final sigma and a title case that equals the upper case are rules, not rows.
    cases = [("lower", str.lower), ("upper", str.upper), ("title", str.title), ("fold", str.casefold)]
    upper = mappings(str.upper)
    for name, change in cases:
        simple, special = mappings(change)
        if name == "title":
            simple = [row for row in simple if row not in upper[0]] + [
                (code, 0) for code, _ in upper[0] + upper[1] if chr(code).title() == chr(code)]
            special = [row for row in special if row not in upper[1]]
            simple.sort()
        if name == "fold":
            lower = mappings(str.lower)
            simple = [row for row in simple if row not in lower[0]] + [
                (code, 0) for code, _ in lower[0] + lower[1] if chr(code).casefold() == chr(code)]
            special = [row for row in special if row not in lower[1]]
            simple.sort()
        table(f"k_{name}_runs", "CaseRun",
              [f"{{0x{a:X}, 0x{b:X}, {step or 1}, {delta}}}" for a, b, step, delta in runs(simple)])
        table(f"k_{name}_texts", "CaseText", [f"{{0x{code:X}, {escaped(text)}}}" for code, text in special])
    digits = [c for c in range(0x110000) if chr(c).isdigit() and not chr(c).isdecimal()]
    numeric = [c for c in range(0x110000) if chr(c).isnumeric() and not chr(c).isdigit()]
    for name, members in (("digits", digits), ("numerics", numeric)):
        table(f"k_{name}", "CaseRange", [f"{{0x{a:X}, 0x{b:X}}}" for a, b in ranges(members)])
    print("}  // namespace")
    print()
    for name, _ in cases:
        print(f"CaseTable {name}_table() {{ return {{k_{name}_runs, k_{name}_texts}}; }}")
    print("std::span<const CaseRange> digits_beyond_decimals() { return k_digits; }")
    print("std::span<const CaseRange> numerics_beyond_digits() { return k_numerics; }")
    print()
    print("}  // namespace moe::jinja")
    print(f"Unicode {unicodedata.unidata_version}", file=sys.stderr)


if __name__ == "__main__":
    main()
