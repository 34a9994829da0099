#!/usr/bin/env python3
"""Plants small, silent faults one by one and checks that a test notices: `make mutants`, or tools/mutants.py [NAME ...].

tests/mutants/*.toml lists the faults: a file, a text that occurs in it once, what takes its place, and the folders of tests
that reach it ("infer" is tests/infer, "e2e/train" is tests/e2e/train_test.py). Everything happens in a copy of the tree,
build/mutants/tree, with a build folder of its own. A fault's tests run until the first one fails; a fault that they do not
notice is tried with the whole suite. An entry whose text does not occur once, or that does not compile, is an error.
"""

import argparse
import os
import pathlib
import random
import re
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "mutants"
TREE = WORK / "tree"
BUILD = TREE / "build"
SECONDS = 600  # a test program that runs longer hangs, which is noticed, too


class Fault:
    def __init__(self, entry, source):
        self.name, self.file, self.tests = entry["name"], entry["file"], entry["tests"]
        self.find, self.replace = entry["find"], entry["replace"]
        self.source = source

    def mistake(self):
        """Why the entry cannot be planted; None where it can."""
        path = ROOT / self.file
        if not path.is_file():
            return f"{self.file} does not exist"
        count = path.read_text().count(self.find)
        if count != 1:
            return f"its text occurs {count} times in {self.file}, expected once"
        if self.find == self.replace:
            return "it changes nothing"
        for folder in self.tests:
            script = ROOT / "tests" / (folder + "_test.py")
            if not script.is_file() and not list((ROOT / "tests" / folder).glob("*_test.cpp")):
                return f"there are no tests in tests/{folder}"
        return None

    def line(self):
        text = (ROOT / self.file).read_text()
        return text[: text.index(self.find)].count("\n") + 1


def read_faults():
    faults = []
    for path in sorted((ROOT / "tests" / "mutants").glob("*.toml")):
        for entry in tomllib.loads(path.read_text())["fault"]:
            faults.append(Fault(entry, path.name))
    names = [fault.name for fault in faults]
    stale = [f"{fault.source}: {fault.name}: {mistake}" for fault in faults if (mistake := fault.mistake())]
    stale += [f"{name}: the name occurs twice" for name in sorted(set(names)) if names.count(name) > 1]
    return faults, stale


def copy_tree():
    """The tracked and new files, as they are now; those that did not change keep their times."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True)
    wanted = {name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()}
    for name in wanted:
        source, target = ROOT / name, TREE / name
        content = source.read_bytes()
        if target.is_file() and target.read_bytes() == content:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(source.stat().st_mode & 0o777)
    for path in list(TREE.rglob("*")):
        relative = path.relative_to(TREE)
        if path.is_file() and relative.parts[0] not in ("build", ".git") and str(relative) not in wanted:
            path.unlink()
    for link, target in ((WORK / "shared", ROOT.parent / "shared"), (BUILD / "venv", ROOT / "build" / "venv")):
        link.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not link.is_symlink():
            link.symlink_to(target.resolve())


def run(command, log, **options):
    with open(log, "a") as file:
        file.write(f"\n$ {' '.join(map(str, command))}\n")
        file.flush()
        start = file.tell()
        try:
            status = subprocess.run(list(map(str, command)), stdout=file, stderr=subprocess.STDOUT, cwd=TREE, **options).returncode
        except subprocess.TimeoutExpired:
            return None, "hangs"
    return status, pathlib.Path(log).read_text(errors="replace")[start:]


def targets_of(folders):
    """What a build makes for the tests of these folders; tests of the program stop it with a library of their own."""
    programs = {"test_" + folder.replace("/", "_") for folder in folders if not folder.startswith("e2e/")}
    return programs | ({"moe", "stop_at_line"} if any(folder.startswith("e2e/") for folder in folders) else set())


def build(targets, jobs, log):
    status, text = run(["cmake", "--build", BUILD, "--parallel", jobs, "--target", *sorted(targets)], log)
    return None if status == 0 else text


def first_failure(text):
    found = re.search(r"\[  FAILED  \] ([\w/.]+)", text) or re.search(r"^(?:FAIL|ERROR): (\w+ \([\w.]+)", text, re.MULTILINE)
    return found[1].replace(" (", " in ") if found else "it crashes"


def noticed_by(folder, log):
    """The first test of a folder that fails; None where all pass."""
    if folder.startswith("e2e/"):
        command = [sys.executable, f"tests/{folder}_test.py", BUILD / "moe", "--failfast"]
    else:
        command = [BUILD / "tests" / f"test_{folder.replace('/', '_')}", "--gtest_fail_fast", "--gtest_brief=1"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    status, text = run(command, log, timeout=SECONDS, env=environment)
    if status == 0:
        return None
    return f"{folder}: {'it hangs' if status is None else first_failure(text)}"


def noticed_by_suite(jobs, log):
    broken = build(["all"], jobs, log)
    if broken:
        return "the build of a test"
    command = ["ctest", "--test-dir", BUILD, "--parallel", jobs, "-LE", "long|cuda", "--stop-on-failure", "--output-on-failure"]
    status, text = run(command, log)
    found = re.search(r"\d+/\d+ Test +#\d+: (\S+) .*\*\*\*", text)
    return None if status == 0 else f"suite: {found[1] if found else 'a test'}"


def try_fault(fault, jobs, whole_suite):
    log = WORK / "logs" / f"{fault.name}.log"
    log.unlink(missing_ok=True)
    path = TREE / fault.file
    clean = path.read_text()
    path.write_text(clean.replace(fault.find, fault.replace))
    try:
        broken = build(targets_of(fault.tests), jobs, log)
        if broken:
            return f"ERROR: it does not compile, see {log.relative_to(ROOT)}"
        for folder in fault.tests:
            if found := noticed_by(folder, log):
                return found
        return noticed_by_suite(jobs, log) if whole_suite else None
    finally:
        path.write_text(clean)


def check_clean_tree(faults, jobs):
    """The tests that are to notice something pass without a fault."""
    log = WORK / "logs" / "clean.log"
    log.unlink(missing_ok=True)
    folders = sorted({folder for fault in faults for folder in fault.tests})
    broken = build(targets_of(folders), jobs, log)
    if broken:
        sys.exit(f"the tree does not build, see {log}")
    for folder in folders:
        if failed := noticed_by(folder, log):
            sys.exit(f"without any fault, a test fails: {failed}; see {log}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="these faults alone")
    parser.add_argument("--check", action="store_true", help="only look whether every entry can be planted")
    parser.add_argument("--sample", type=int, metavar="N", help="N of the faults, chosen at random")
    parser.add_argument("--seed", type=int, default=1, help="of the choice")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--no-suite", action="store_true", help="do not try survivors with the whole suite")
    parser.add_argument("--allow", type=int, default=2, metavar="N", help="survivors that are no failure (default 2)")
    options = parser.parse_args()

    faults, stale = read_faults()
    if stale:
        sys.exit("\n".join(stale))
    if unknown := set(options.names) - {fault.name for fault in faults}:
        sys.exit(f"no such fault: {', '.join(sorted(unknown))}")
    if options.names:
        faults = [fault for fault in faults if fault.name in options.names]
    if options.sample:
        faults = random.Random(options.seed).sample(faults, min(options.sample, len(faults)))
    if options.check:
        return print(f"{len(faults)} faults can be planted")

    copy_tree()
    (WORK / "logs").mkdir(exist_ok=True)
    status, text = run(["cmake", "--preset", "release", "-DMOE_WITH_CUDA=OFF"], WORK / "logs" / "configure.log")
    if status != 0:
        sys.exit(text)
    begin = time.monotonic()
    check_clean_tree(faults, options.jobs)
    print(f"{'fault':<28} {'place':<44} {'seconds':>7}  noticed by", flush=True)
    survivors, errors = [], []
    for fault in faults:
        start = time.monotonic()
        found = try_fault(fault, options.jobs, not options.no_suite)
        if found is None:
            survivors.append(fault.name)
        elif found.startswith("ERROR"):
            errors.append(fault.name)
        place = f"{fault.file}:{fault.line()}"
        print(f"{fault.name:<28} {place:<44} {time.monotonic() - start:>7.0f}  {found or 'NOBODY'}", flush=True)
    minutes = (time.monotonic() - begin) / 60
    noticed = len(faults) - len(survivors) - len(errors)
    print(f"{len(faults)} faults in {minutes:.0f} minutes: {noticed} noticed, {len(survivors)} survived, {len(errors)} in error")
    if errors or len(survivors) > options.allow:
        sys.exit(1)


if __name__ == "__main__":
    main()
