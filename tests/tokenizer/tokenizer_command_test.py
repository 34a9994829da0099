#!/usr/bin/env python3
"""`moe tokenizer` as a user types it: tokenizer_command_test.py MOE"""

import json
import os
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

MOE = ""
TEXT = "The cat sat on the mat, the cat sat on 12 mats.\n汉字 汉字\n" * 20


class TokenizerCommand(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.temporary.name)
        (cls.folder / "a.txt").write_text(TEXT, encoding="utf-8")
        line = json.dumps({"text": TEXT})
        (cls.folder / "b.jsonl").write_text(f"{line}\n{line}\n", encoding="utf-8")
        done = cls.run_moe("train", "--vocab-size", "300", "--out", cls.folder / "tok", cls.folder / "a.txt",
                           cls.folder / "b.jsonl")
        assert done.returncode == 0, done.stderr

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    @staticmethod
    def run_moe(*arguments, data=b""):
        return subprocess.run([MOE, "tokenizer", *map(str, arguments)], input=data, capture_output=True)

    def output(self, command, *flags, data=b""):
        done = self.run_moe(command, "--tokenizer", self.folder / "tok", *flags, data=data)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout

    def refused(self, status, *arguments, data=b""):
        done = self.run_moe(*arguments, data=data)
        self.assertEqual((done.returncode, done.stdout), (status, b""))
        return done.stderr.decode()

    def test_training_says_what_it_made_on_stderr_alone(self):
        done = self.run_moe("train", "--vocab-size", "9000", "--out", self.folder / "big", self.folder / "a.txt")
        self.assertEqual((done.returncode, done.stdout), (0, b""))
        self.assertIn("the vocabulary has fewer than 9000 tokens", done.stderr.decode())
        names = sorted(path.name for path in (self.folder / "big").iterdir())
        self.assertEqual(names, ["tokenizer.json", "tokenizer_config.json"])

    def test_another_tokenizer_is_neither_replaced_nor_left_beside_the_new_one(self):
        for name in ("tokenizer.json", "added_tokens.json", "special_tokens_map.json"):
            own = self.folder / f"own-{name}"
            own.mkdir()
            (own / name).write_text("{}")
            said = self.refused(1, "train", "--vocab-size", "300", "--out", own, self.folder / "a.txt")
            self.assertIn(f"already holds a tokenizer ({name})", said)
            self.assertEqual([path.name for path in own.iterdir()], [name])
            self.assertEqual((own / name).read_text(), "{}")

    def test_the_number_of_threads_changes_nothing(self):
        for threads in (1, 3):
            out = self.folder / f"threads-{threads}"
            self.run_moe("train", "--vocab-size", "300", "--threads", threads, "--out", out, self.folder / "b.jsonl",
                         self.folder / "a.txt")
            expected = (self.folder / "tok" / "tokenizer.json").read_bytes()
            self.assertEqual((out / "tokenizer.json").read_bytes(), expected)

    def test_ids_are_separated_by_blanks_and_begin_with_bos(self):
        out = self.output("encode", data=b"the cat")
        self.assertRegex(out, rb"^0( \d+)+\n$")
        self.assertEqual(self.output("encode", "--no-special", data=b"the cat"), out[2:])
        self.assertEqual(self.output("encode"), b"0\n")
        self.assertEqual(self.output("encode", "--no-special"), b"\n")

    def test_any_bytes_come_back(self):
        for data in (TEXT.encode(), random.Random(1).randbytes(5000), b"\r\n\x00\xff", "<｜end▁of▁sentence｜>".encode()):
            self.assertEqual(self.output("decode", data=self.output("encode", data=data)), data)

    def test_special_tokens_are_text_unless_parsed_and_left_out_unless_asked(self):
        data = "a<｜end▁of▁sentence｜>b".encode()
        parsed = self.output("encode", "--parse-special", "--no-special", data=data)
        self.assertEqual(len(parsed.split()), 3)
        self.assertGreater(len(self.output("encode", "--no-special", data=data).split()), 3)
        self.assertEqual(self.output("decode", data=parsed), b"ab")
        self.assertEqual(self.output("decode", "--special", data=parsed), data)

    def test_lines_end_at_line_feeds_alone(self):
        data = "one\r\n\ntwo\u2028x\x0b\n last".encode()
        lines = [json.loads(line) for line in self.output("encode", "--lines", "--no-special", data=data).splitlines()]
        texts = [self.output("decode", data=json.dumps(ids).encode()) for ids in lines]
        self.assertEqual(texts, data.split(b"\n"))
        self.assertEqual(self.output("encode", "--lines", data=b"\n\n"), b"[0]\n[0]\n")
        self.assertEqual(self.output("encode", "--lines", data=b""), b"")

    def test_a_second_bos_is_warned_of(self):
        done = self.run_moe("encode", "--tokenizer", self.folder / "tok", "--parse-special",
                            data="<｜begin▁of▁sentence｜>x".encode())
        self.assertIn("--no-special", done.stderr.decode())

    def test_mistakes_are_one_sentence_and_a_status(self):
        tok = self.folder / "tok"
        self.assertIn("found \"x1\" at byte 2", self.refused(1, "decode", "--tokenizer", tok, data=b"1 x1 2"))
        self.assertIn("id 300 is outside", self.refused(1, "decode", "--tokenizer", tok, data=b"300"))
        self.assertIn("expected a token id", self.refused(1, "decode", "--tokenizer", tok, data=b"99999999999"))
        self.assertIn("no tokenizer.json", self.refused(1, "encode", "--tokenizer", self.folder, data=b"x"))
        self.assertIn("--tokenizer is required", self.refused(2, "encode"))
        special = lambda *names: self.refused(2, "import", "x.tiktoken", "--words", "gpt-2", "--out", self.folder / "new",
                                              *(word for name in names for word in ("--special", name)))
        self.assertIn("the token is not UTF-8", special(os.fsdecode(b"\xff=500")))
        self.assertIn("the token has the id 500 already", special("s=500", "s=501"))
        text = self.folder / "a.txt"
        self.assertIn("--vocab-size 100: expected a whole number from 275 to ", self.refused(2, "train", "--vocab-size", 100, "--out", "x", text))
        self.assertIn("gone.txt", self.refused(1, "train", "--out", self.folder / "y", self.folder / "gone.txt"))
        self.assertFalse((self.folder / "y").exists())

    def test_compare_says_bytes_per_token_by_domain(self):
        small = self.folder / "small"
        done = self.run_moe("train", "--vocab-size", "275", "--out", small, self.folder / "a.txt")
        self.assertEqual(done.returncode, 0, done.stderr)
        files = [self.folder / "a.txt", self.folder / "b.jsonl"]
        done = self.run_moe("compare", small, self.folder / "tok" / "tokenizer.json", *files, "--json")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        result = json.loads(done.stdout)
        vocabulary = json.loads((self.folder / "tok" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
        self.assertEqual([each["tokens"] for each in result["tokenizers"]], [275, len(vocabulary)])
        self.assertEqual([row["domain"] for row in result["domains"]], ["a", "b", "all"])
        size = len(TEXT.encode())
        self.assertEqual([row["bytes"] for row in result["domains"]], [size, 2 * size, 3 * size])
        for row in result["domains"]:
            self.assertEqual(row["tokens"][0], row["bytes"])  # its tokens are bytes
            self.assertEqual(row["bytes_per_token"][0], 1)
            self.assertAlmostEqual(row["bytes_per_token"][1], row["bytes"] / row["tokens"][1])
        ids = self.output("encode", "--no-special", data=TEXT.encode()).split()
        self.assertEqual(result["domains"][0]["tokens"][1], len(ids))
        table = self.run_moe("compare", small, files[0]).stdout.decode()
        self.assertRegex(table, r"a +0\.00 +1\.000")
        self.assertIn("no tokenizer is named", self.refused(2, "compare", files[0]))
        self.assertIn("no text is named", self.refused(2, "compare", small))

    def test_a_sample_is_the_same_for_any_order_and_is_said(self):
        lines = [json.dumps({"text": f"line {i} has the number {i * i}"}) for i in range(500)]
        made = []
        for name, order in (("first", lines), ("second", lines[::-1])):
            path = self.folder / f"{name}.jsonl"
            path.write_text("\n".join(order), encoding="utf-8")
            out = self.folder / f"{name}-tok"
            done = self.run_moe("train", "--vocab-size", "300", "--max-bytes", "4000", "--out", out, path)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("--max-bytes 4000", done.stderr.decode())
            made.append((out / "tokenizer.json").read_bytes())
        self.assertEqual(made[0], made[1])

    def test_help_explains_each_command_with_an_example(self):
        for command in ("train", "encode", "decode", "compare"):
            done = self.run_moe(command, "--help")
            self.assertEqual(done.returncode, 0)
            self.assertIn(f"moe tokenizer {command}", done.stdout.decode().split("Example:")[1])


if __name__ == "__main__":
    MOE = sys.argv.pop(1)
    unittest.main()
