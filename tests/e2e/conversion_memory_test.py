"""Models that are larger than the memory a conversion may use: `moe init`, `moe convert`, `moe convert --check`; and what is left
of a conversion that is killed in the middle.

Usage: conversion_memory_test.py PATH_OF_MOE
"""

import pathlib
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from commands import SmallRun
from support import MOE, ROOT, SANITIZED, moe

MIB = 1 << 20
LIMIT = 400 * MIB  # of data: anonymous memory, touched or not
SETTINGS = ("model.hidden_size=256", "model.num_attention_heads=4", "model.num_key_value_heads=4", "model.head_dim=64",
            "model.num_hidden_layers=6", "model.n_routed_experts=64", "model.num_experts_per_tok=4",
            "model.moe_intermediate_size=512")


def limited():
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))


def within_limit(*arguments):
    result = subprocess.run([MOE, *map(str, arguments)], preexec_fn=limited, capture_output=True, text=True)
    if result.returncode != 0:
        raise AssertionError(f"moe {arguments}: {result.stderr}")
    return result.stdout


@unittest.skipIf(SANITIZED, "a sanitizer needs more memory than the program itself")
class ConversionMemoryTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="moe-conversion-memory-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        (cls.folder / "small").mkdir()
        cls.small = SmallRun(cls.folder / "small")
        cls.large = cls.folder / "large"
        within_limit("init", "--config", cls.small.run_file, *(word for each in SETTINGS for word in ("--set", each)),
                     "--out", cls.large)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(cls.small.model / name, cls.large / name)

    def test_each_conversion_stays_within_the_limit(self):
        self.assertGreater(size_of(self.large), 1.4 * LIMIT)
        blocks, mixture, back = (self.folder / name for name in ("blocks.gguf", "mixture.gguf", "back"))
        within_limit("convert", self.large, blocks, "--quant", "q4_0", "--no-tokenizer")
        within_limit("convert", blocks, mixture, "--quant", "q4_k_m")
        within_limit("convert", mixture, back, "--dtype", "bf16")
        within_limit("init", "--config", self.small.run_file, *(word for each in SETTINGS for word in ("--set", each)),
                     "--quant", "q8_0", "--out", self.folder / "drawn.gguf")
        self.assertGreater(size_of(back), 0.7 * LIMIT)

    def test_the_check_stays_within_it_too(self):
        text = self.folder / "text.md"
        text.write_text((ROOT / "docs" / "training.md").read_text()[:3000])
        said = within_limit("convert", self.large, self.folder / "checked", "--dtype", "bf16", "--check", text)
        self.assertIn("loss after", said)

    def test_killed_at_any_moment_it_leaves_nothing_that_looks_whole(self):
        for out, arguments in (("one.gguf", ("--quant", "q4_0", "--no-tokenizer")), ("two", ("--dtype", "bf16"))):
            for part in (0, 0.05, 0.5, 0.9):
                self.killed(self.folder / out, arguments, part)
            within_limit("convert", self.large, self.folder / out, *arguments)
            self.assertEqual([path.name for path in self.folder.iterdir() if out in path.name], [out])  # swept

    def killed(self, out, arguments, part):
        """Kills a conversion when it has written this part of what it will write."""
        expected = {".gguf": 0.14, "": 0.5}[out.suffix] * size_of(self.large)
        process = subprocess.Popen([MOE, "convert", self.large, out, *arguments], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline and self.written(out) < part * expected:
            time.sleep(0.005)
        self.assertIsNone(process.poll(), f"the conversion ended before it had written {part} of {out.name}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertFalse(out.exists())

    def written(self, out):
        return sum(size_of(path) for path in self.folder.glob(f"*{out.name}*tmp*"))


def size_of(path):
    """Bytes of a file, or of a folder's files; 0 if they go while they are looked at."""
    try:
        return sum(each.stat().st_size for each in ([path] if path.is_file() else list(path.rglob("*"))))
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    unittest.main()
