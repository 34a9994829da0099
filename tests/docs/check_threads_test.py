"""tools/check_threads.py finds a class that does not say which threads may use it."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CHECK = Path(__file__).resolve().parents[2] / "tools" / "check_threads.py"


class CheckThreadsTest(unittest.TestCase):
    def check(self, header):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "src").mkdir()
            (Path(folder) / "src" / "a.h").write_text(header)
            return subprocess.run([sys.executable, CHECK, "--root", folder], capture_output=True, text=True)

    def test_a_silent_class_is_named(self):
        result = self.check("#pragma once\n/// Numbers.\n\n#include <vector>\n\n/// A list.\nclass List {\n};\n")
        self.assertEqual(result.returncode, 1)
        self.assertIn("src/a.h:7: List does not say which threads may use it", result.stdout)

    def test_a_line_at_the_class_or_at_the_top_is_enough(self):
        for header in ("#include <vector>\n/// A list. For one thread at a time.\nclass List {\n};\n",
                       "/// Lists, each for one thread at a time.\n#include <vector>\nclass List final : public Base {\n};\n"):
            self.assertEqual(self.check(header).returncode, 0, header)

    def test_structs_exceptions_and_declarations_need_none(self):
        self.assertEqual(self.check("#include <a>\nstruct A {\n};\nclass B;\nclass C : public Error {\n};\n").returncode, 0)


if __name__ == "__main__":
    unittest.main()
