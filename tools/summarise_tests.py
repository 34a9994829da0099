#!/usr/bin/env python3
"""Counts the results in a JUnit file written by ctest; names what failed, why a test was skipped, and how many for which reason."""

import collections
import re
import sys
import xml.etree.ElementTree as tree


def skip_reason(case):
    """The line that a skipped test printed, or ctest's own word for it."""
    text = case.findtext("system-out") or ""
    googletest = re.search(r": Skipped\n(.+)", text)
    plain = re.search(r"\[  SKIPPED \] (.+)", text) or re.search(r"(?im)\bskip(?:ped|ping|s)?: *(.+)$", text)
    found = googletest or plain
    if found:
        return found.group(1).strip()
    element = case.find("skipped")
    return element.get("message", "no reason given") if element is not None else "no reason given"


def main():
    cases = tree.parse(sys.argv[1]).getroot().findall("testcase")
    failed = [case for case in cases if case.get("status") == "fail"]
    skipped = {case.get("name"): skip_reason(case) for case in cases if case.get("status") in ("notrun", "disabled")}
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}")
    for reason, count in collections.Counter(skipped.values()).most_common():
        print(f"{count} skipped because: {reason}")
    for case in failed:
        print(f"FAILED {case.get('name')}")
    print(f"{len(cases) - len(failed) - len(skipped)} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
