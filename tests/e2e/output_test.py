"""Standard output of every command: an error where it cannot be written, valid UTF-8 where people read it.

Usage: output_test.py PATH_OF_MOE
"""

import pathlib
import shutil
import subprocess
import tempfile
import unittest

from support import MOE, ROOT
from commands import SmallRun, all_commands

SENTENCE = b"error: standard output could not be written: "


def run(*arguments, stdout=subprocess.PIPE, input=b"61 62 63"):
    return subprocess.run([MOE, *map(str, arguments)], input=input, stdout=stdout, stderr=subprocess.PIPE)


class OutputTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-output-test-"))
        cls.small = SmallRun(cls.base)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def expect_full(self, *arguments, sentence=SENTENCE):
        with open("/dev/full", "wb") as full:
            result = run(*arguments, stdout=full)
        self.assertIn(sentence, result.stderr, arguments)
        self.assertIn(b"No space left on device", result.stderr)
        self.assertEqual(result.returncode, 1, arguments)
        return result

    def test_every_command_is_known(self):
        groups = {("tokenizer",), ("eval",), ("study",), ("completion",)}
        self.assertEqual(set(all_commands()), set(self.small.command_lines()) | groups)

    def test_a_full_disk_is_an_error_in_every_command(self):
        silent = set()
        for command, arguments in self.small.command_lines().items():
            with self.subTest(command=command):
                done = run(*command, *arguments)
                self.assertEqual(done.returncode, 0, done.stderr)
                arguments = self.small.arguments(*command)
                if done.stdout == b"":
                    silent.add(command)
                    with open("/dev/full", "wb") as full:
                        self.assertEqual(run(*command, *arguments, stdout=full).returncode, 0)
                elif command == ("train",):  # its samples must not end it
                    result = self.expect_full(*command, *arguments, sentence=SENTENCE.replace(b"error", b"warning"))
                    self.assertEqual(result.stderr.count(b"No space left"), 1)
                    self.assertTrue((pathlib.Path(arguments[-1].partition("=")[2]) / "step-2").is_dir())
                else:
                    self.expect_full(*command, *arguments)
        self.assertEqual(silent, {("tokenizer", "train"), ("tokenizer", "import"), ("logits",), ("report",)})

    def test_a_full_disk_is_an_error_for_what_stops_early(self):
        self.expect_full("--version")
        self.expect_full("train", self.small.run_file, "--dry-run", "--set", f"run.dir={self.small.base}/unused")
        self.expect_full("train", "--keys")
        self.expect_full("cost", "--paper")
        self.expect_full("cost", "--preset", "deepseekmoe-2b", "--json")
        self.expect_full("eval", "loss", self.small.model, self.small.text, "--json", "-")
        for command in [(), *all_commands()]:
            self.expect_full(*command, "--help")

    def test_a_closed_standard_output_is_an_error_and_takes_no_file_s_bytes(self):
        out = self.small.new()
        line = f"exec '{MOE}' eval loss '{self.small.model}' '{self.small.text}' --json '{out}' >&-"
        result = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE)
        self.assertIn(SENTENCE + b"Bad file descriptor", result.stderr)
        self.assertEqual(result.returncode, 1)
        self.assertTrue(out.read_text().rstrip().endswith("}"))

    def test_generated_text_is_utf8(self):
        """The model is as good as random, so most of what it writes is no character."""
        replaced = 0
        for seed in range(5):
            options = ("--max-new-tokens", 60, "--seed", seed, "--temperature", 2)
            text = run("generate", self.small.model, *options).stdout.decode()  # fails where it is not UTF-8
            replaced += text.count("\N{REPLACEMENT CHARACTER}")
        self.assertGreater(replaced, 5)
        samples = self.small.trained.stdout  # decoded as UTF-8 when it was read
        self.assertIn("--- samples after step 2 ---", samples)
        self.assertIn("\N{REPLACEMENT CHARACTER}", samples)

    def test_decode_gives_exact_bytes(self):
        ids = " ".join(map(str, range(300))).encode()
        decoded = run("tokenizer", "decode", "--tokenizer", self.small.model, "--special", input=ids).stdout
        self.assertRaises(UnicodeDecodeError, decoded.decode)
        again = run("tokenizer", "encode", "--tokenizer", self.small.model, "--no-special", input=decoded).stdout
        self.assertEqual(run("tokenizer", "decode", "--tokenizer", self.small.model, input=again).stdout, decoded)

    def test_messages_are_utf8(self):
        result = run("generate", b"no\xff such \xe6\xb1 folder".decode(errors="surrogateescape"))
        self.assertIn("no\N{REPLACEMENT CHARACTER} such \N{REPLACEMENT CHARACTER} folder", result.stderr.decode())


if __name__ == "__main__":
    unittest.main(verbosity=2)
