"""tools/check_names.py finds two classes of one name, wherever they are defined."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CHECK = Path(__file__).resolve().parents[2] / "tools" / "check_names.py"


class CheckNamesTest(unittest.TestCase):
    def check(self, files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / name).write_text(text)
            return subprocess.run([sys.executable, CHECK, "--root", folder], capture_output=True, text=True)

    def assert_twice(self, name, files):
        result = self.check(files)
        self.assertEqual(result.returncode, 1, result.stdout)
        for file in files:
            self.assertIn(file, result.stdout)
        self.assertIn(f"{name} is defined 2 times", result.stdout)

    def test_both_places_are_named(self):
        result = self.check({"src/a/x.h": "namespace moe {\n\nstruct List {\n  int n;\n};\n}\n",
                             "src/b/y.cpp": "#include <a>\nnamespace moe {\nclass List final : public Base<int> {};\n}\n"})
        self.assertEqual(result.returncode, 1)
        self.assertIn("src/a/x.h:3, src/b/y.cpp:3: moe::List is defined 2 times", result.stdout)

    def test_every_kind_of_class_is_seen(self):
        for one in ("class A { int n; };", "enum class A : int { one };", "template <typename T, int n>\nstruct A {};", "struct alignas(64) A {};",
                    "struct A : B {\n  struct C {};\n};", "union A { int n; };", "/* a { */ struct A { char c = '{'; };"):
            self.assert_twice("moe::A", {"src/a.h": "namespace moe {\n" + one + "\n}\n",
                                         "src/b.cpp": "namespace moe {\nvoid f() { if (true) {} }\nstruct A {};\n}\n"})

    def test_tests_are_programs_by_themselves(self):
        text = "namespace moe {\nstruct A {};\n}\n"
        self.assert_twice("moe::A", {"src/a.h": text, "tests/ops/a_test.cpp": text})
        self.assert_twice("moe::A", {"tests/support/a.h": text, "tests/ops/a_test.cpp": text})
        self.assertEqual(self.check({"tests/ops/a.h": text, "tests/nn/a.h": text}).returncode, 0)

    def test_what_a_file_keeps_for_itself_may_repeat(self):
        other = "namespace moe {\nclass A;\nstruct A {};\n}\n"
        for same in ("namespace moe {\nnamespace {\nstruct A {};\n}\n}\n", "namespace moe {\nclass A;\nstruct A* a;\n}\n",
                     "namespace moe {\nstruct B {\n  struct A {};\n};\n}\n", "namespace moe::small {\nstruct A {};\n}\n",
                     "namespace moe {\nvoid f() {\n  struct A {};\n}\n}\n", "namespace moe {\n// struct A {};\nconst char* a = \"struct A {\";\n}\n"):
            self.assertEqual(self.check({"src/a.h": other, "src/b.cpp": same}).returncode, 0, same)


if __name__ == "__main__":
    unittest.main()
