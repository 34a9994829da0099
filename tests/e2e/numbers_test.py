"""Every option of every command that takes a number, at the edges of what it takes and beyond: accepted with the meaning
that its help states, or refused by its name with exit status 2; never a crash, an abort or a library's words.

The options and their ranges are read from the help texts, so that a new one is tried too.
Usage: numbers_test.py PATH_OF_MOE
"""

import concurrent.futures
import pathlib
import re
import resource
import shutil
import subprocess
import tempfile
import unittest

from support import MOE, SANITIZED
from commands import SmallRun, all_commands, help_of

EDGES = ["0", "-1", "-5", "2147483648", "4294967296", "9223372036854775808", "1e-30", "inf", "nan", "abc", ""]
NUMBER = re.compile(r"^  +(--[\w-]+) (INTEGER|NUMBER) (from|above) (\S+) (?:to|and at most) ([^\s=]+)", re.MULTILINE)
VALUE = re.compile(r"^  +(--[\w-]+) (?!Excludes|Needs)[A-Z]", re.MULTILINE)
UNCHECKED = re.compile(r"^  +(--[\w-]+) (?:U?INT|FLOAT)\b", re.MULTILINE)
WORDS_OF_LIBRARIES = ("exception", "terminate", "what()", "std::", "basic_", "Could not convert", "an unexpected error",
                      "internal check", "Sanitizer")
MEMORY = 3 << 30
WORK_SECONDS = 3  # a command whose value is in the range may be at work for long; after these it is stopped
REFUSAL_SECONDS = 300  # another one ends by itself, however slow the machine is


class Option:
    def __init__(self, command, found):
        self.command = command
        self.name, kind, bound, self.least, self.most = found
        self.kind = int if kind == "INTEGER" else float
        self.above = bound == "above"

    def edges(self):
        values = [*EDGES, self.most]
        if self.kind is float:
            return [*values, repr(float(self.most) * 1.001)]
        return [*values, self.least, str(int(self.least) - 1), str(int(self.most) + 1), "1.5", "0x10"]

    def takes(self, text):
        try:
            value = self.kind(text)
        except ValueError:
            return False
        least, most = self.kind(self.least), self.kind(self.most)
        return (value > least if self.above else value >= least) and value <= most


def limit_memory():
    if not SANITIZED:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def run(arguments, seconds=REFUSAL_SECONDS):
    """(exit status, or None where it was still at work after so many seconds; what it said)"""
    command = [MOE, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          preexec_fn=limit_memory) as process:
        try:
            error = process.communicate(timeout=seconds)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return None, ""
        return process.returncode, error.decode()


class Numbers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-numbers-test-"))
        cls.small = SmallRun(cls.base)
        cls.options = [Option(command, found) for command in all_commands() for found in NUMBER.findall(help_of(*command))]

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def arguments(self, option, value):
        lines = self.small.arguments(*option.command)
        if option.name in lines:  # CLI11 takes an option once
            at = lines.index(option.name)
            lines = lines[:at] + lines[at + 2 :]
        needed = ["--analyse"] if option.name in ("--top-tokens", "--min-count") else []
        if option.command == ("bench",):
            return [*option.command, *lines, *needed, option.name, value]
        return [*option.command, option.name, value, *needed, *lines]

    def check(self, option, value):
        arguments = self.arguments(option, value)
        status, said = run(arguments, WORK_SECONDS if option.takes(value) else REFUSAL_SECONDS)
        for words in WORDS_OF_LIBRARIES:
            self.assertNotIn(words, said, arguments)
        if option.takes(value):
            self.assertIn(status, (0, 1, 2, None), (arguments, said))
            self.assertNotRegex(said, f"{option.name} {re.escape(value)}: expected (a whole number|a number)")  # its range; sizes may not fit each other
            self.assertEqual(status in (1, 2), "error: " in said, (arguments, said))
        else:
            shown = value or '""'
            self.assertEqual((status, f"error: {option.name} {shown}: expected " in said), (2, True), (arguments, said))

    def check_all(self, tries):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for result in [pool.submit(self.check, *one) for one in tries]:
                result.result()


class NumbersTest(Numbers):
    def test_every_number_states_what_it_takes(self):
        for command in all_commands():
            self.assertEqual(UNCHECKED.findall(help_of(*command)), [], command)
        self.assertGreater(len(self.options), 60)
        self.assertGreater(len({option.name for option in self.options}), 30)

    def test_what_is_refused(self):
        tries = [(option, value) for option in self.options for value in option.edges() if not option.takes(value)]
        self.assertGreater(len(tries), 500)
        self.check_all(tries)

    def test_an_empty_value_is_refused_by_name(self):
        """What a shell makes of a variable that is not set. An empty path would otherwise count as an option left out."""
        texts = {"--prompt", "--system", "--stop", "--new-tokens", "--set", "--tokens"}
        options = [(command, name) for command in all_commands() for name in VALUE.findall(help_of(*command)) if name not in texts]
        self.assertGreater(len(options), 150)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for (command, name), result in [(one, pool.submit(run, [*one[0], one[1], ""])) for one in options]:
                status, said = result.result()
                self.assertEqual((status, len(re.findall("^error: ", said, re.MULTILINE)), name in said), (2, 1, True), (command, name, said))
        for arguments in (["generate", ""], ["inspect", ""], ["train", ""], ["eval", "loss", self.small.model, ""], ["convert", "", "x"],
                          ["convert", self.small.model, ""], ["merge", ""], ["tokenizer", "compare", self.small.model, ""],
                          ["data", "--tokenizer", self.small.model, "--out", "x", ""]):
            status, said = run(arguments)
            self.assertEqual((status, "the value is empty" in said), (2, True), (arguments, said))

    def test_numbers_inside_lists(self):
        model, text = self.small.model, self.small.text
        for value in [*EDGES[1:], "1.5", "1,x", "1;2"]:
            for arguments, name in (
                (["eval", "loss", model, text, "--mask-experts", f"0:{value}"], "mask"),
                (["eval", "loss", model, text, "--mask-experts", f"{value}:0"], "mask"),
                (["eval", "loss", model, text, "--boost-experts", f"{value}:0=1"], "boost"),
                (["eval", "loss", model, text, "--sweep", f"experts-per-token={value}"], "--sweep"),
                (["eval", "loss", model, text, "--sweep", f"mask-best={value}"], "--sweep"),
                (["logits", model, "--out", self.small.new(), "--tokens", value], "token"),
            ):
                status, said = run(arguments)
                self.assertIn(status, (1, 2), (arguments, said))
                self.assertIn(name, said, arguments)
                for words in WORDS_OF_LIBRARIES:
                    self.assertNotIn(words, said, arguments)


class AcceptedNumbersTest(Numbers):
    @unittest.skipIf(SANITIZED, "a sanitizer needs more addresses than a limit on memory leaves")
    def test_what_is_accepted(self):
        tries = [(option, value) for option in self.options for value in option.edges() if option.takes(value)]
        self.assertGreater(len(tries), 100)
        self.check_all(tries)


if __name__ == "__main__":
    unittest.main(verbosity=2)
