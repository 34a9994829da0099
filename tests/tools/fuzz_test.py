"""tools/fuzz.py: counts what targets do, and ends with status 1 where one of them finds something."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLEAN = "echo 'stat::number_of_executed_units: 1234' >&2"
FINDS = """for word in "$@"; do case $word in -artifact_prefix=*) prefix=${word#*=} ;; esac; done
echo bad >"${prefix}crash-1"
echo '#77	NEW    cov: 1' >&2
exit 77"""


class Fuzz(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "tests" / "fuzz").mkdir(parents=True)

    def target(self, name, script):
        path = self.folder / "tests" / "fuzz" / f"fuzz_{name}"
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def run_targets(self, *arguments):
        return subprocess.run([sys.executable, ROOT / "tools/fuzz.py", self.folder, *arguments], capture_output=True, text=True)

    def test_counts_and_no_finding(self):
        self.target("gguf", CLEAN)
        done = self.run_targets("--runs", "10")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"(?m)^gguf +1234 +\d+ +0$")

    def test_a_finding_is_named_with_its_input(self):
        self.target("gguf", CLEAN)
        self.target("config", FINDS)
        done = self.run_targets()
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"(?m)^config +77 +\d+ +1$")
        self.assertIn(str(self.folder.resolve() / "findings" / "config-crash-1"), done.stdout)

    def test_a_target_that_cannot_start_is_a_finding(self):
        self.target("gguf", "exit 3")
        done = self.run_targets()
        self.assertEqual(done.returncode, 1)
        self.assertIn("gguf.log", done.stdout)

    def test_an_unknown_target_is_named(self):
        self.target("gguf", CLEAN)
        done = self.run_targets("--targets", "gguf, jpeg")
        self.assertEqual(done.returncode, 1)
        self.assertIn("there is no target jpeg, expected one of gguf", done.stderr)

    def test_every_target_has_seeds_and_a_dictionary(self):
        self.target("gguf", CLEAN)
        self.run_targets()
        for source in (ROOT / "tests/fuzz").glob("*_fuzz.cpp"):
            name = source.stem.removesuffix("_fuzz")
            self.assertTrue(any((self.folder / "seeds" / name).iterdir()), name)
            self.assertTrue((self.folder / "seeds" / f"{name}.dict").read_text().startswith('"'), name)


if __name__ == "__main__":
    unittest.main()
