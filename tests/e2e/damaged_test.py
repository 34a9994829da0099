"""Damaged files: whatever a file holds, a command ends with a result or with one sentence, never with a crash, an abort or
a library's words. Each file of a small run is cut, emptied, filled with noise, and changed in single bytes.

Usage: damaged_test.py PATH_OF_MOE
"""

import concurrent.futures
import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import unittest

from support import MOE, moe
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

    def test_adapters(self):
        folder = self.base / "adapter-files"
        shutil.copytree(self.small.adapter / "latest", folder)
        (folder / "checksums.json").unlink()  # it would tell every change at once
        self.try_all(folder, ["adapter_config.json", "adapter_model.safetensors"],
                     lambda copy: [["eval", "loss", self.small.model, self.small.text, "--lora", copy],
                                   ["merge", self.small.model, "--lora", copy, "--out", copy / "merged"]])

    def test_lists_and_adapters_of_experts(self):
        run, folder = self.base / "experts-run", self.base / "experts"
        folder.mkdir()
        (folder / "experts.json").write_text('{"experts": {"0": [1, 3], "1": [0]}, "shared_experts": true}')
        train = ["train", self.small.run_file, "--set", f"model.from={self.small.run}", "--set", "train.parameters=experts",
                 "--set", "train.steps=1"]
        moe(*train, "--set", f"run.dir={run}", "--set", f"train.experts={folder / 'experts.json'}")
        moe("convert", run, self.base / "experts-adapter", "--experts-only")
        self.try_all(folder, ["experts.json"],
                     lambda copy: [[*train, "--set", f"run.dir={copy / 'run'}", "--set", f"train.experts={copy / 'experts.json'}"]])
        self.try_all(self.base / "experts-adapter", ["expert_cfg.json", "adapter.safetensors"],
                     lambda copy: [["convert", self.small.model, copy / "model", "--experts", copy]])

    def test_conversations_preferences_and_prompts(self):
        folder = self.base / "lines"
        folder.mkdir()
        files = {
            "chats.jsonl": [{"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]}] * 3,
            "pairs.jsonl": [{"prompt": "one", "chosen": "two", "rejected": "three"}] * 3,
            "prompts.jsonl": [{"prompt": "class", "id": 1, "temperature": 0.5, "top_k": 4, "seed": 7, "stop": ["x"]},
                              {"ids": [1, 2], "continuation": "a"}, "class"],
        }
        for name, lines in files.items():
            (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        for kind, name in (("--chat", "chats.jsonl"), ("--preferences", "pairs.jsonl")):
            self.try_all(folder, [name],
                         lambda copy: [["data", kind, "--tokenizer", self.small.model, "--out", copy / mode, "--on-error", mode,
                                        copy / name] for mode in ("stop", "skip")])
        self.try_all(folder, ["prompts.jsonl"],
                     lambda copy: [["generate", self.small.model, "--prompts", copy / "prompts.jsonl", "--max-new-tokens", 2]])

    def test_a_run_of_preferences_that_goes_on(self):
        pairs, run = self.base / "pairs.jsonl", self.base / "dpo"
        pairs.write_text("".join(json.dumps({"prompt": f"one {i}", "chosen": "two", "rejected": "three"}) + "\n" for i in range(8)))
        moe("data", "--preferences", "--tokenizer", self.small.model, "--out", self.base / "pairs", pairs)
        train = ["train", self.small.run_file, "--set", f"model.from={self.small.run}", "--set", "train.objective=dpo", "--set",
                 f"data.train={self.base / 'pairs'}", "--set", "data.valid=", "--set", "data.sequence_length=64"]
        moe(*train, "--set", f"run.dir={run}")
        self.try_all(run, ["reference.json"], lambda copy: [[*train, "--resume", "--set", f"run.dir={copy}", "--set", "train.steps=3",
                                                             "--allow-change", "train.steps"]])

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
