"""What a person meets at the prompt: an overview, help by name, other words and slips that are understood, run folders in
the place of models, prompts from standard input, progress on a terminal.

Usage: prompt_test.py PATH_OF_MOE
"""

import json
import os
import pathlib
import pty
import re
import shutil
import subprocess
import tempfile
import unittest

from support import MOE
from commands import SmallRun, all_commands, help_of, subcommands


def run(*arguments, input=None):
    stdin = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
    return subprocess.run([MOE, *map(str, arguments)], capture_output=True, text=True, **stdin)


def on_a_terminal(*arguments, stream="stderr", **other):
    """What standard error, or the stream named, shows when it is a terminal."""
    ours, theirs = pty.openpty()
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **other, stream: theirs}
    with subprocess.Popen([MOE, *map(str, arguments)], stdin=subprocess.DEVNULL, **streams) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
    os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


class PromptTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-prompt-test-"))
        cls.small = SmallRun(cls.base)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def test_text_of_others_moves_no_cursor_of_a_terminal(self):
        template, variables = self.base / "colours.jinja", self.base / "variables.json"
        template.write_text("a\tb\n{{ text }}")
        variables.write_text(json.dumps({"text": "\x1b[31mred\rover\x07\x9b2J end \u00e9"}))
        arguments = ["tokenizer", "apply-template", "--template", template, "--variables", variables]
        self.assertIn("\x1b[31mred", run(*arguments).stdout)  # to a file or a pipe: as it is
        shown = on_a_terminal(*arguments, stream="stdout")
        self.assertIn("a\tb\r\n\ufffd[31mred\ufffdover\ufffd\ufffd2J end \u00e9", shown)  # \r\n is the terminal's own

    def expect(self, sentence, *arguments, status=2):
        result = run(*arguments)
        self.assertIn(sentence, result.stderr, arguments)
        self.assertTrue(result.stderr.startswith("error: "), result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertEqual((result.returncode, result.stdout), (status, ""), arguments)

    def test_alone_it_gives_an_overview(self):
        alone = run()
        self.assertEqual((alone.returncode, alone.stderr), (0, ""))
        self.assertEqual(alone.stdout, run("--help").stdout)
        self.assertEqual(alone.stdout, run("help").stdout)
        for name in subcommands():
            self.assertRegex(alone.stdout, rf"(?m)^  {name}  +\w")
        self.assertIn("moe tokenizer train --vocab-size", alone.stdout)
        self.assertLess(max(map(len, alone.stdout.splitlines())), 122)

    def test_help_by_name_is_help(self):
        for command in all_commands():
            named = run("help", *command)
            self.assertEqual((named.returncode, named.stdout), (0, help_of(*command)), command)
            self.assertIn(f"Usage: moe {' '.join(command)}", named.stdout)
        self.expect("there is no command `moe evil`; did you mean `moe eval`?", "help", "evil")
        self.expect("there is no command `moe eval gain`; `moe help eval` lists the commands", "help", "eval", "gain")

    def test_commands_that_do_not_exist(self):
        for typed, sentence in (
            ("run", "`moe train FILE` trains a model, `moe generate MODEL_DIR` writes text"),
            ("talk", "`moe chat MODEL_DIR` talks with a model"),
            ("quantize", "`moe convert MODEL OUT` writes a model in another type or format"),
            ("evaluate", "`moe eval loss MODEL_DIR FILE`"),
            ("finetune", "model.from in its file fine-tunes a model"),
            ("serve", "there is no server"),
            ("tokenise", "`moe tokenizer encode`"),
            ("trian", "did you mean `moe train`?"),
            ("genrate", "did you mean `moe generate`?"),
            ("encode", "did you mean `moe tokenizer encode`?"),
            ("loss", "did you mean `moe eval loss`?"),
            ("xyzzy", "`moe help` lists the commands"),
        ):
            self.expect(f"there is no command `moe {typed}`; ", typed, "anything")
            self.expect(sentence, typed)
        self.expect("there is no command `moe tokenizer encod`; did you mean `moe tokenizer encode`?", "tokenizer", "encod")
        self.expect("there is no command `moe bench stpe`; did you mean `moe bench step`?", "bench", "stpe")
        self.expect("`moe eval` needs one of its commands: loss, experts, causal; `moe help eval` explains them", "eval")
        self.expect("`moe tokenizer` needs one of its commands: train, encode, decode", "tokenizer")
        self.expect(f"there is no command `moe eval {self.small.model}`", "eval", self.small.model, self.small.text)

    def test_options_that_do_not_exist(self):
        for command, typed, meant in (
            ("generate", "--max-tokens", "--max-new-tokens"),
            ("generate", "--max_new_tokens", "--max-new-tokens"),
            ("generate", "--topk", "--top-k"),
            ("generate", "--top_p=0.9", "--top-p"),
            ("generate", "--gpu", "--device cuda"),
            ("generate", "--fp16", "--dtype bf16"),
            ("generate", "--promt", "--prompt"),
            ("eval loss", "--batch-size", "--batch-rows"),
            ("eval loss", "--context-length", "--sequence-length"),
            ("eval loss", "--output", "--json"),
            ("eval loss", "--top-k", "--experts-per-token"),
            ("bench step", "--batch-size", "--rows"),
            ("train", "--batch-size", "--set data.rows_per_step=N"),
            ("train", "--lr", "--set optimizer.learning_rate=X"),
            ("train", "--epochs", "--set train.epochs=N"),
            ("train", "--resum", "--resume"),
            ("tokenizer train", "--vocab_size", "--vocab-size"),
            ("tokenizer train", "--output-dir", "--out"),
            ("logits", "--num-threads", "--threads"),
        ):
            words = command.split()
            name = typed.partition("=")[0]
            lines = self.small.arguments(*words)
            self.expect(f"`moe {command}` has no option {name}; did you mean {meant}?", *words, *lines, typed, 1)
            self.expect(f"`moe {command}` has no option {name}; ", *words, typed, 1)  # what is required is missing, too
        self.expect("`moe train` has no option --config; FILE is given by itself", "train", "--config", "x.toml")
        self.expect("`moe logits` has no option --model; MODEL_DIR is given by itself", "logits", "--model", "x")
        self.expect("`moe cost --help` lists its options", "cost", "--frobnicate")
        self.expect("`moe train` does not take second.toml", "train", self.small.run_file, "second.toml")

    def test_options_that_are_given_twice(self):
        for words, name, values in ((("generate",), "--top-k", ("1", "2")), (("train",), "--threads", ("1", "1")),
                                    (("eval", "loss"), "--json", ("a", "b"))):
            given = [word for value in values for word in (name, value)]
            self.expect(f"{name} takes one value, but was given two: {values[0]}, {values[1]}; give it once", *words,
                        *self.small.arguments(*words), *given)

    def test_a_run_folder_stands_for_its_newest_checkpoint(self):
        scores = {}
        for folder in (self.small.model, self.small.run):
            same = ["--max-new-tokens", 9, "--seed", 1, "--prompt", "class", "--quiet"]
            out = self.small.new()
            self.assertEqual(run("logits", folder, "--tokens", "1,2", "--out", out).returncode, 0)
            encoded = run("tokenizer", "encode", "--tokenizer", folder, input="class")
            self.assertEqual(run("data", "--tokenizer", folder, "--out", self.small.new(), self.small.text).returncode, 0)
            scores[folder] = (
                run("generate", folder, *same).stdout,
                run("eval", "loss", folder, self.small.text).stdout,
                run("cost", folder).stdout,
                out.read_bytes(),
                encoded.stdout,
            )
        self.assertEqual(*scores.values())
        self.assertNotIn("", scores[self.small.run])
        copied = self.base / "copied"  # a copy that lost its link
        shutil.copytree(self.small.run, copied, ignore=shutil.ignore_patterns("latest"))
        (copied / "step-9").mkdir()  # of a checkpoint that was half deleted: no model
        self.assertEqual(run("cost", copied).stdout, scores[self.small.run][2])
        empty = self.base / "empty"
        empty.mkdir()
        shutil.copy(self.small.run / "run.toml", empty)
        self.expect(f"{empty} is the folder of a run that has no checkpoint yet", "generate", empty, status=1)

    def test_prompts_from_standard_input(self):
        same = ["--max-new-tokens", 12, "--seed", 4, "--quiet"]
        given = run("generate", self.small.model, "--prompt", "größere Füchse", *same).stdout
        self.assertNotEqual(given, "")
        for text in ("größere Füchse", "größere Füchse\n", "größere Füchse\r\n"):
            self.assertEqual(run("generate", self.small.model, *same, input=text).stdout, given)
            self.assertEqual(run("generate", self.small.model, "--prompt", "-", *same, input=text).stdout, given)
        file = self.base / "prompt.txt"
        file.write_text("größere Füchse\n")
        with open(file) as opened:
            redirected = subprocess.run([MOE, "generate", self.small.model, *map(str, same)], stdin=opened,
                                        capture_output=True, text=True)
        self.assertEqual(redirected.stdout, given)
        exact = run("generate", self.small.model, "--prompt", "größere Füchse\n", *same).stdout
        self.assertEqual(run("generate", self.small.model, "--prompt-file", file, *same).stdout, exact)
        self.assertNotEqual(exact, given)
        from_bos = run("generate", self.small.model, *same).stdout  # standard input is a device here
        self.assertEqual(run("generate", self.small.model, *same, input="").stdout, from_bos)
        ignored = run("generate", self.small.model, "--prompt", "größere Füchse", *same, input="other")
        self.assertEqual(ignored.stdout, given)

    def test_the_device_is_named(self):
        processor = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
        name = processor[1] if processor else "CPU"
        said = run("generate", self.small.model, "--prompt", "a", "--max-new-tokens", 1, "--threads", 2).stderr
        self.assertIn(f"f32 on {name}, 2 threads\n", said)
        said = run("eval", "loss", self.small.model, self.small.text, "--threads", 1).stderr
        self.assertIn(f"{self.small.model} on {name}, 1 thread\n", said)

    def test_progress_on_a_terminal(self):
        prompt = ["--prompt", "class of text", "--max-new-tokens", 5]
        shown = on_a_terminal("generate", self.small.model, *prompt)
        self.assertRegex(shown, r"\rreading the weights of |\r\x1b\[Kreading the weights of ")
        self.assertRegex(shown, r"3 of at most 5 tokens, [\d.]+ tokens/s")
        quiet = on_a_terminal("generate", self.small.model, *prompt, "--quiet")
        self.assertNotIn("tokens", quiet)
        shown = on_a_terminal("eval", "loss", self.small.model, self.small.text)
        self.assertRegex(shown, r"evaluating: \d+ of \d+ rows, 0s left")
        self.assertTrue(shown.endswith("\r\x1b[K") or shown.endswith("\n"), shown[-40:])


if __name__ == "__main__":
    unittest.main(verbosity=2)
