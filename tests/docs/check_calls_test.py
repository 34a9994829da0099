"""tools/check_calls.py finds each kind of call that throws a library's own words, and no other."""

import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))
import check_calls  # noqa: E402


class CheckCalls(unittest.TestCase):
    def mistakes(self, text, name="data/a.cpp"):
        return check_calls.mistakes_in(text, name)

    def test_forms_that_throw_are_found_at_their_lines(self):
        for line in ("if (fs::exists(path / name(a, b))) return;", "fs::remove_all(folder);", "fs::rename(a, b);",
                     "for (auto& e : fs::directory_iterator(path)) use(e);", "fs::directory_iterator entry(path);",
                     "fs::create_directory_symlink(a, b);", "return fs::file_size(path);", "x = std::stoull(text, &at, 16);",
                     "write(json.dump(2));", "Json j = Json::parse(text);", "nlohmann::json::parse(begin, end)"):
            found = self.mistakes(f"#include <x>\n\n{line}\n")
            self.assertEqual(len(found), 1, line)
            self.assertTrue(found[0].startswith("src/data/a.cpp:3: "), found)

    def test_forms_with_an_error_code_and_other_words_are_fine(self):
        for line in ("fs::exists(path, error)", "fs::rename(a, b, error);", "fs::directory_iterator entry(path, error);",
                     "fs::path(text)", "// fs::exists(path) throws", "dumped(json)", "parse_json(text, name)",
                     "path_exists(path)", "fs::directory_iterator()"):
            self.assertEqual(self.mistakes(line), [], line)
        self.assertEqual(self.mistakes("json.dump(indent)", "formats/json.h"), [])


if __name__ == "__main__":
    unittest.main()
