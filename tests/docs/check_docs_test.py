"""check_docs.py finds a name that points nowhere, and takes nothing else for a path."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
import check_docs  # noqa: E402


class CheckDocs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for path in ("src/ops/op.h", "docs/testing.md", "Makefile"):
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text("")
        (self.root / "tests").mkdir()
        (self.root / "tests/some_test.cpp").write_text("TEST(One, Holds) {}\nTEST_P(Two,\n       Holds) {}\n")
        (self.root / "tests/some_test.py").write_text("class T:\n    def test_it(self):\n        pass\n")

    def mistakes(self, text):
        (self.root / "README.md").write_text(text)
        return check_docs.check(self.root)[0]

    def test_names_that_exist_pass(self):
        text = "`src/ops/op.h` `ops/op.h` `src/ops/op.h:12` `src/ops/*.h` `src/ops/` `Makefile` [t](docs/testing.md#top)"
        self.assertEqual(self.mistakes(text), [])

    def test_tests_are_looked_up(self):
        self.assertEqual(self.mistakes("`One.Holds` `Two.Holds` `test_it` and `test_<folder>`"), [])
        for name in ("One.HoldsNot", "Three.Holds", "test_that"):
            with self.subTest(name):
                self.assertEqual(self.mistakes(f"`{name}`"), [f"README.md:1: there is no test {name}"])

    def test_each_kind_of_name_that_points_nowhere_is_found_at_its_line(self):
        for name in ("`src/ops/gone.h`", "`ops/gone.h`", "`docs/gone.md`", "`tools/*.py`", "`GONE.md`", "[t](gone.md)"):
            with self.subTest(name):
                found = self.mistakes(f"first line\nsee {name}\n")
                self.assertEqual(len(found), 1, found)
                self.assertTrue(found[0].startswith("README.md:2: "), found)

    def test_patterns_commands_and_built_files_are_no_paths(self):
        text = "`runs/demo/` `build/moe` `tests/<layer>/` `step-N/` `src/.../op.h` `make test` `[T, V]` [w](https://a.example/b)"
        self.assertEqual(self.mistakes(text), [])


if __name__ == "__main__":
    unittest.main()
