"""Signals that end the program: no temporary file or folder stays behind, and the status is the signal's."""

import os
import pathlib
import signal
import subprocess
import tempfile
import unittest

from commands import SmallRun
from support import MOE, moe, signalled


class SignalsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.TemporaryDirectory()
        base = pathlib.Path(cls.shared.name)
        cls.small = SmallRun(base, tokenizer=["--pattern", "qwen2"])  # one that a GGUF file can have
        cls.chats, cls.pairs = base / "chats.jsonl", base / "pairs.jsonl"
        cls.chats.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 3)
        cls.pairs.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 3)
        cls.experts_run, cls.experts_adapter = base / "experts-run", base / "experts-adapter"
        (base / "experts.json").write_text('{"experts": {"0": [1], "1": [0, 2]}}')
        moe("train", cls.small.run_file, "--set", f"model.from={cls.small.run}", "--set", "train.parameters=experts", "--set",
            f"train.experts={base / 'experts.json'}", "--set", f"run.dir={cls.experts_run}")
        moe("convert", cls.experts_run, cls.experts_adapter, "--experts-only")

    @classmethod
    def tearDownClass(cls):
        cls.shared.cleanup()

    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.temporary.name)

    def tearDown(self):
        self.temporary.cleanup()

    def writers(self):
        """A command for each kind of output, and a part of the name under which that output is written."""
        small, out = self.small, self.folder / "out"
        return (
            (["data", "--tokenizer", small.base / "tokenizer", "--out", out, small.text], "out.moe-"),
            (["data", "--tokenizer", small.base / "tokenizer", "--valid-fraction", "0.5", "--out", out, small.text], "out.moe-"),
            (["tokenizer", "train", "--vocab-size", 300, "--out", out, small.text], "tokenizer.json.moe-"),
            (["init", "--config", small.run_file, "--out", out], "out.moe-"),
            (["init", "--config", small.run_file, "--out", self.folder / "out.gguf"], "out.gguf.moe-"),
            (["convert", small.run, out], "out.moe-"),
            (["convert", "--no-tokenizer", small.run, self.folder / "out.gguf"], "out.gguf.moe-"),
            (["eval", "loss", small.run, small.text, "--json", self.folder / "scores.json"], "scores.json.moe-"),
            (["convert", small.run, out, "--experts", self.experts_adapter], "out.moe-"),
            (["convert", self.experts_run, out, "--experts-only"], "out.moe-"),
            (["merge", small.run, "--lora", small.adapter, "--out", out], "out.moe-"),
            (["merge", small.adapter, "--out", self.folder / "out.gguf"], "out.gguf.moe-"),
            (["data", "--chat", "--tokenizer", small.run, "--new-tokens", "<x>", "--out", out, self.chats], "out.moe-"),
            (["data", "--preferences", "--tokenizer", small.run, "--out", out, self.pairs], "out.moe-"),
            (["eval", "experts", small.run, small.base / "dataset", "--out", self.folder / "experts.json"], "experts.json.moe-"),
            (["tokenizer", "import", small.ranks, "--words", "gpt-2", "--out", out], "tokenizer.json.moe-"),
            (["logits", small.run, "--tokens", "1,2,3", "--out", self.folder / "logits.safetensors"], "logits.safetensors.moe-"),
        )

    def left(self):
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if not path.is_dir() or ".moe-" in path.name)

    def test_every_command_that_writes_removes_what_it_had_begun(self):
        for arguments, part in self.writers():
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                with self.subTest(arguments=arguments, number=number):
                    result = signalled(number, arguments, part=part, line=1)
                    self.assertEqual(result.returncode, -number, result.stderr)
                    self.assertEqual(self.left(), [])

    def test_nohup_is_honoured(self):
        arguments, part = self.writers()[0]
        result = signalled(signal.SIGHUP, arguments, part=part, line=1, ignored=[signal.SIGHUP])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("out/dataset.json", self.left())

    def test_a_command_that_waits_for_its_input_ends_at_once(self):
        slow = self.folder / "slow.jsonl"
        os.mkfifo(slow)
        process = subprocess.Popen([MOE, "data", "--tokenizer", self.small.base / "tokenizer", "--out", self.folder / "out",
                                    slow], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        with open(slow, "w"):  # opens when the program reads: its temporary folder is there by then
            self.assertEqual(len(list(self.folder.glob("out.moe-*"))), 1)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(), -signal.SIGTERM)
        self.assertEqual(self.left(), ["slow.jsonl"])

    def test_a_signal_during_a_checkpoint_of_training_leaves_none_half_written(self):
        arguments = ["train", self.small.run_file, "--set", f"run.dir={self.folder / 'run'}"]
        result = signalled(signal.SIGQUIT, arguments, part="/step-2.tmp/", line=1)
        self.assertEqual(result.returncode, -signal.SIGQUIT, result.stderr)
        self.assertEqual([path for path in self.left() if "step-2" in path], [])

    def test_a_reader_that_goes_away_loses_no_dataset(self):
        arguments = ["data", "--tokenizer", self.small.base / "tokenizer", "--valid-fraction", "0.5", "--out", self.folder / "out",
                     self.small.text]
        process = subprocess.Popen([MOE, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        process.stdout.close()
        process.wait()
        self.assertNotEqual(process.returncode, 0)
        for part in ("train", "valid"):
            self.assertIn(f"out/{part}/dataset.json", self.left())
        self.assertEqual([path for path in self.left() if ".moe-" in path], [])


if __name__ == "__main__":
    unittest.main()
