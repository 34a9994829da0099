"""tools/check_format.py finds a file of each ending that is not formatted, and is skipped with a reason without the tool."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))
import check_format  # noqa: E402
from check_layers import SOURCES  # noqa: E402


class CheckFormat(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        shutil.copy(ROOT / ".clang-format", self.root)
        (self.root / "src").mkdir()

    def check(self, *words, **environment):
        script = [sys.executable, ROOT / "tools/check_format.py", "--root", self.root, *words]
        done = subprocess.run(script, capture_output=True, text=True, env={**os.environ, **environment})
        return done.returncode, done.stdout.splitlines()

    def need_tool(self):
        if reason := check_format.why_not(shutil.which("clang-format")):
            self.skipTest(reason)

    def test_every_ending_is_compared_and_formatted(self):
        self.need_tool()
        for ending in SOURCES:
            (self.root / f"src/a{ending}").write_text("int  f( ) ;\n")
        status, lines = self.check()
        self.assertEqual((status, len(lines)), (1, len(SOURCES) + 1), lines)
        self.assertEqual(self.check("--fix"), (0, []))
        self.assertEqual(self.check(), (0, [f"{len(SOURCES)} files, 0 to format"]))
        self.assertEqual((self.root / "src/a.cu").read_text(), "int f();\n")

    def test_without_the_tool_the_reason_is_named(self):
        status, lines = self.check(PATH="")
        self.assertEqual((status, len(lines)), (0, 1))
        self.assertIn("[  SKIPPED ] there is no clang-format", lines[0])

    def test_a_tree_without_sources_fails(self):
        self.need_tool()
        self.assertEqual(self.check(), (1, ["0 files, 0 to format"]))


if __name__ == "__main__":
    unittest.main()
