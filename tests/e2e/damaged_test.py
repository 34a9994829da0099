"""Damaged files: whatever a file holds, a command ends with a result or with one sentence, never with a crash, an abort or
a library's words. Each file of a small run is cut, emptied, filled with noise, and changed in single bytes.

Usage: damaged_test.py PATH_OF_MOE
"""

import concurrent.futures
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import unittest

from support import MOE
from commands import SmallRun

WORDS_OF_LIBRARIES = ("exception", "terminate", "what()", "std::", "basic_", "an unexpected error", "internal check",
                      "Sanitizer", "filesystem error", "stoul")
CHANGED_BYTES = int(os.environ.get("MOE_DAMAGED_BYTES", "12"))  # tries with single bytes changed, per file


def damages(content, draw):
    """(what was done, the file's new content)"""
    yield "empty", b""
    yield "cut in half", content[: len(content) // 2]
    yield "without its last byte", content[:-1]
    yield "with more at its end", content + b"\0\xff{}"
    yield "noise", draw.randbytes(min(len(content), 5000))
    yield "a NUL in its middle", content[: len(content) // 2] + b"\0" + content[len(content) // 2 :]
    yield "deeply nested", b"[" * 200_000
    for _ in range(CHANGED_BYTES):
        changed = bytearray(content)
        place = draw.randrange(min(len(content), 4000))
        changed[place] = draw.choice(b"0919-eE.\"{}[],:\\ntuf\x00\x80\xff")
        yield f"byte {place} changed to {changed[place]:#x}", bytes(changed)


class DamagedTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-damaged-test-"))
        cls.small = SmallRun(cls.base)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def check(self, what, arguments):
        result = subprocess.run([MOE, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, timeout=120)
        said = result.stderr.decode()  # UTF-8, whatever the file holds
        told = f"{what}: moe {' '.join(map(str, arguments))}\n{said}"
        self.assertIn(result.returncode, (0, 1, 2), told)
        for words in WORDS_OF_LIBRARIES:
            self.assertNotIn(words, said, told)
        self.assertEqual(said.count("error: "), 1 if result.returncode != 0 else 0, told)

    def try_all(self, folder, names, commands):
        """Damages each of the files in a copy of `folder`; `commands(copy)` are run with each copy."""
        draw = random.Random(7)
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            waiting = []
            for name in names:
                for number, (what, content) in enumerate(damages((folder / name).read_bytes(), draw)):
                    copy = self.small.new()
                    shutil.copytree(folder, copy, symlinks=True)
                    (copy / name).write_bytes(content)
                    for arguments in commands(copy):
                        waiting.append(pool.submit(self.check, f"{name} {what}", arguments))
                    if number % 8 == 7:
                        self.finish(waiting)
            self.finish(waiting)

    def finish(self, waiting):
        while waiting:
            waiting.pop().result()
        for path in self.base.glob("out-*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def test_model_folders(self):
        def commands(model):
            yield ["generate", model, "--prompt", "class", "--max-new-tokens", 3]
            yield ["logits", model, "--tokens", "1,2", "--out", model / "logits"]

        names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
        self.try_all(self.small.model.resolve(), names, commands)

    def test_runs_that_go_on(self):
        folder = self.small.run
        checkpoint = f"{self.small.model.resolve().name}/"
        names = [checkpoint + name for name in ("trainer_state.json", "config.json", "model.safetensors", "run.toml")]
        names += ["log.jsonl", "run.toml"] + [checkpoint + path.name for path in self.small.model.glob("optimizer-*")]

        def commands(run):
            yield ["train", self.small.run_file, "--resume", "--set", f"run.dir={run}", "--set", "train.steps=3"]

        self.try_all(folder, names, commands)

    def test_datasets(self):
        folder = self.base / "dataset"
        names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        self.assertGreater(len(names), 3)

        def commands(dataset):
            yield ["train", self.small.run_file, "--set", f"data.train={dataset}", "--set", f"data.valid={dataset}",
                   "--set", f"run.dir={dataset / 'run'}", "--set", "train.steps=1"]

        self.try_all(folder, names, commands)

    def test_texts_and_run_files(self):
        folder = self.base / "files"
        folder.mkdir()
        for path in (self.small.text, self.small.run_file, self.small.study_file):
            shutil.copy(path, folder)
        self.try_all(folder, [self.small.text.name],
                     lambda copy: [["data", "--tokenizer", self.small.model, "--out", copy / "data", copy / self.small.text.name],
                                   ["eval", "loss", self.small.model, copy / self.small.text.name],
                                   ["tokenizer", "train", "--vocab-size", 290, "--out", copy / "t", copy / self.small.text.name]])
        self.try_all(folder, [self.small.run_file.name], lambda copy: [["train", copy / self.small.run_file.name, "--dry-run"]])
        self.try_all(folder, [self.small.study_file.name], lambda copy: [["study", "show", copy / self.small.study_file.name]])


if __name__ == "__main__":
    unittest.main(verbosity=2)
