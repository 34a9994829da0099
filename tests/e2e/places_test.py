"""Where weights are, and how much memory they may take: --cpu-moe, --n-cpu-moe, --memory-limit.

Usage: places_test.py PATH_OF_MOE
"""

import json
import pathlib
import re
import shutil
import tempfile
import unittest

from support import ROOT, moe

RUN = """
[run]
dir = "{folder}/run"
[data]
train = "{folder}/dataset"
sequence_length = 64
rows_per_step = 2
[model]
hidden_size = 64
intermediate_size = 96
num_hidden_layers = 3
first_k_dense_replace = 1
num_attention_heads = 2
n_shared_experts = 1
n_routed_experts = 6
num_experts_per_tok = 2
moe_intermediate_size = 32
max_position_embeddings = 128
[train]
steps = 2
"""


class Places(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-places-test-"))
        words = "river stone green walks under the old bridge and sings of water".split()
        texts = [" ".join(words[(i * k + k) % 11] for k in range(200)) for i in range(6)]
        lines, tokenizer = cls.base / "lines.jsonl", cls.base / "tokenizer"
        lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        # A GGUF file cannot have every tokenizer.
        moe("tokenizer", "train", "--pattern", "qwen2", "--vocab-size", 400, "--out", tokenizer, lines)
        moe("data", "--tokenizer", tokenizer, "--out", cls.base / "dataset", lines)
        cls.run_file = cls.base / "run.toml"
        cls.run_file.write_text(RUN.format(folder=cls.base))
        moe("train", cls.run_file, "--device", "cpu")
        cls.model = cls.base / "run"
        cls.blocks = cls.base / "model.gguf"
        moe("convert", cls.model, cls.blocks, "--quant", "q4_0")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def generate(self, model, *options):
        return moe("generate", model, "--prompt", "river stone", "--max-new-tokens", 20, "--temperature", 0, *options)

    def test_experts_elsewhere_give_the_same_text(self):
        for model in (self.model, self.blocks):
            expected = self.generate(model).stdout
            self.assertNotEqual(expected, "")
            for place, layers in ((("--cpu-moe",), 3), (("--n-cpu-moe", 2), 2), (("--n-cpu-moe", 99), 3)):
                result = self.generate(model, *place)
                self.assertEqual(result.stdout, expected)
                self.assertIn(f"the CPU computes the routed experts of the first {layers} layers (", result.stderr)
            self.assertNotIn("routed experts", self.generate(model, "--n-cpu-moe", 0).stderr)
            # The first layer has no experts.
            self.assertNotIn("routed experts", self.generate(model, "--n-cpu-moe", 1).stderr)

    def test_chat_too(self):
        def answer(*options):
            return moe("chat", self.model, "--temperature", 0, *options, input="river stone\n")

        expected, found = answer(), answer("--cpu-moe")
        self.assertEqual(found.stdout, expected.stdout)
        self.assertIn("the CPU computes the routed experts of the first 3 layers", found.stderr)

    def test_evaluation_too(self):
        def loss(*options):
            return moe("eval", "loss", self.model, self.base / "lines.jsonl", "--json", "-", *options)

        expected, found = loss(), loss("--n-cpu-moe", 2)
        self.assertEqual(found.stdout, expected.stdout)
        self.assertIn("the CPU computes the routed experts of the first 2 layers", found.stderr)

    def test_a_dry_run_tells_both_places(self):
        whole = self.generate(self.blocks, "--dry-run").stdout
        split = self.generate(self.blocks, "--dry-run", "--cpu-moe").stdout
        self.assertNotIn("on the CPU", whole)
        # Two layers with 6 experts of 3 x 64 x 32 numbers, in blocks of 18 bytes for 32.
        self.assertRegex(split, r"(?m)^on the CPU .*the CPU computes the routed experts of the first 3 layers \(0\.04 MiB of q4_0\)$")

    def test_both_options_exclude_each_other_and_need_experts(self):
        both = self.generate_refused(self.model, "--cpu-moe", "--n-cpu-moe", 2)
        self.assertIn("--cpu-moe", both)
        dense = moe("eval", "loss", ROOT / "tests/golden/dense", self.base / "lines.jsonl", "--cpu-moe", check=False)
        self.assertEqual(dense.returncode, 2, dense.stderr)
        self.assertIn("has no routed experts; leave the option out", dense.stderr)

    def generate_refused(self, model, *options):
        result = moe("generate", model, "--prompt", "river", *options, check=False)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertEqual(result.stdout, "")
        return result.stderr

    def test_training_is_planned_for_the_limit(self):
        plan = moe("train", self.run_file, "--device", "cpu", "--dry-run", "--set", f"run.dir={self.base}/never")
        needed = re.search(r"^memory +(\S+ \S+) of", plan.stdout, re.M)
        self.assertIsNotNone(needed, plan.stdout)
        limited = moe("train", self.run_file, "--device", "cpu", "--dry-run", "--memory-limit", "64MiB", "--set",
                      f"run.dir={self.base}/never")
        self.assertRegex(limited.stdout, r"(?m)^memory .* of (64\.0+ MiB|0\.06)")
        self.assertIn("the run does not fit here", limited.stderr)
        refused = moe("train", self.run_file, "--device", "cpu", "--memory-limit", "64MiB", "--set",
                      f"run.dir={self.base}/never", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("training needs", refused.stderr)
        self.assertFalse((self.base / "never").exists())

    def test_benchmarks_keep_to_the_limit(self):
        sizes = ("--hidden", 64, "--layers", 2, "--heads", 2, "--width", 32, "--experts", 6, "--top-k", 2, "--device", "cpu",
                 "--product", 0)
        refused = moe("bench", "step", *sizes, "--rows", 1, "--length", 64, "--memory-limit", "10MB", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("training needs", refused.stderr)
        for context in ((), ("--batch", "2", "--context", "64")):
            work = ("bench", "generate", *sizes, *context, "--tokens", 4, "--repeats", 1, "--quant", "q8_0")
            refused = moe(*work, "--memory-limit", "1MB", check=False)
            self.assertEqual(refused.returncode, 1)
            self.assertIn("--memory-limit leaves", refused.stderr)
        odd = moe("bench", "generate", "--hidden", 16, "--layers", 1, "--heads", 2, "--width", 8, "--experts", 4, "--top-k", 2,
                  "--vocabulary", 50, "--device", "cpu", "--product", 0, "--prompt", 8, "--tokens", 2, "--repeats", 1, "--quant",
                  "q8_0")  # rows that are not whole blocks
        self.assertIn("tokens/s", odd.stdout)
        measured = json.loads(moe(*work, "--json").stdout)
        self.assertEqual(measured["dtype"], "q8_0")
        self.assertEqual(len(measured["rows"]), 1)

    def test_chat_keeps_to_the_limit(self):
        def fits(kilobytes, options):
            # Two threads on any machine: each takes 32 MiB.
            result = moe("chat", self.model, "--temperature", 0, "--max-new-tokens", 2, "--threads", 2, "--memory-limit",
                         f"{kilobytes}KB", *options, input="river\n", check=False)
            if result.returncode != 0:
                self.assertEqual(result.returncode, 1, result.stderr)
                self.assertRegex(result.stderr, r"need [1-9][\d.]* [KM]iB .* --memory-limit leaves \d[\d.]* [KM]iB")
                self.assertEqual(result.stdout, "")
            return result.returncode == 0

        def least(*options):
            low, high = 10, 1 << 20
            self.assertTrue(fits(high, options))
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if fits(middle, options) else (middle, high)
            return high

        whole = least()
        self.assertGreater(whole, 750)  # the weights alone
        self.assertLess(least("--context", 40), whole)
        self.assertLess(least("--dtype", "q8_0"), whole)

    def test_a_limit_is_a_size(self):
        for command in (("train", self.run_file), ("bench", "step"), ("bench", "generate"), ("chat", self.model)):
            result = moe(*command, "--memory-limit", "much", check=False)
            self.assertEqual(result.returncode, 2)
            self.assertIn("expected a size such as 40GB or 24GiB", result.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
