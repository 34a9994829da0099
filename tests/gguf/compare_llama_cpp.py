#!/usr/bin/env python3
"""Compares our GGUF models with llama.cpp: it loads and runs what we write, and we run what it writes.

  compare_llama_cpp.py --moe build/moe [--venv build/venv]

Needs the Python packages llama-cpp-python (built from source), gguf and numpy; exit status 77 (a skip for CTest) without
them. MOE_TEST_PYTHON names a Python that has them.
"""

import argparse
import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SKIP = 77
ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
TYPES = {"q8_0": 7, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q4_k_m": 15, "q5_k_m": 17, "q6_k": 18}
# llama.cpp rounds the inputs of products with blocks to 8 bits, with f16 and bf16 weights to those types, and we do not.
# Of the logits' root mean square; the smaller the model's depth and weights, the smaller the effect.
ROUNDED_INPUTS = 0.05
EXACT_INPUTS = 2e-5
MOE = None
TEXTS = ["Once upon a time, there was a little girl named Lily.", "  two blanks\n\n\ttabs and\r\nlines \n\n\n x\n",
         "It's 1234567 o'clock; don't SHOUT'S!", "Größe, naïve, 你好，世界。こんにちは", "emoji 🙂🏳️‍🌈 and \u00a0 spaces\u3000",
         "def f(x):     return x**2  # ok", "a", " ", "   ", "<s> </s> <|endoftext|> text", "x" * 300, "½ ⅔ Ⅷ ٣٤"]


def use_python_with_packages(venv):
    needed = ("llama_cpp", "gguf", "numpy")
    python = os.environ.get("MOE_TEST_PYTHON") or os.path.join(venv or "", "bin", "python")
    if all(importlib.util.find_spec(name) for name in needed):
        return
    if not os.path.exists(python) or "MOE_COMPARE_CHILD" in os.environ:
        print("[  SKIPPED ] the Python package llama-cpp-python, gguf or numpy is not installed")
        sys.exit(SKIP)
    os.execve(python, [python, *sys.argv], {**os.environ, "MOE_COMPARE_CHILD": "1"})


def moe(*words, text=None):
    result = subprocess.run([MOE, *map(str, words)], capture_output=True, input=text)
    if result.returncode != 0:
        raise AssertionError(f"moe {' '.join(map(str, words))}: {result.stderr.decode()}")
    return result.stdout


def our_logits(model, ids, folder):
    out = folder / "logits.safetensors"
    moe("logits", model, "--tokens", ",".join(map(str, ids)), "--out", out)
    data = out.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    shape = json.loads(data[8 : 8 + length])["logits"]["shape"]
    return np.frombuffer(data[8 + length :], dtype=np.float32).reshape(shape)


def our_ids(tokenizer, text, special=True, parse=False):
    words = ["tokenizer", "encode", "--tokenizer", tokenizer]
    words += [] if special else ["--no-special"]
    words += ["--parse-special"] if parse else []
    return [int(word) for word in moe(*words, text=text.encode()).split()]


def all_ids(tokenizer, texts, special=True):
    """Ids by text, of few runs of the program: texts of one line go together."""
    lines = [text for text in texts if "\n" not in text]
    words = ["tokenizer", "encode", "--tokenizer", tokenizer, "--lines", *([] if special else ["--no-special"])]
    found = moe(*words, text="".join(line + "\n" for line in lines).encode()).splitlines()
    assert len(found) == len(lines)
    result = {line: json.loads(ids) for line, ids in zip(lines, found)}
    result.update({text: our_ids(tokenizer, text, special) for text in texts if "\n" in text})
    return result


def difference(a, b):
    """Root of the mean square of the difference, relative to that of b."""
    return float(np.sqrt(np.mean((a - b) ** 2)) / np.sqrt(np.mean(b**2)))


def type_names(path):
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


class Case(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name)

    def model(self, name, init_std=0.12, **settings):
        """A model folder with random weights that are large enough to make routes and attention differ."""
        keys = {"vocab_size": 320, "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
                "num_key_value_heads": 2, "n_routed_experts": 6, "num_experts_per_tok": 2, "n_shared_experts": 1,
                "moe_intermediate_size": 96, "first_k_dense_replace": 1, "intermediate_size": 320,
                "max_position_embeddings": 512} | settings
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
        run = self.folder / f"{name}.toml"
        run.write_text(f'[run]\ndir = "runs/x"\n[data]\ntrain = "x"\nrows_per_step = 1\nsequence_length = 64\n[model]\n{lines}\n'
                       f"[train]\nsteps = 1\ninit_std = {init_std}\n[optimizer]\nlearning_rate = 1e-3\n")
        moe("init", "--config", run, "--out", self.folder / name)
        return self.folder / name

    def theirs(self, path, ids):
        model = llama.Model(path)
        try:
            return model.logits(ids)
        finally:
            model.close()

    def agree(self, path, most, ids):
        found, expected = our_logits(path, ids, self.folder), self.theirs(path, ids)
        self.assertEqual(found.shape, expected.shape)
        self.assertGreater(float(np.std(expected)), 0.05)
        if os.environ.get("MOE_TEST_PRINT"):
            print(f"{path.name}: {difference(found, expected):.2e}")
        self.assertLess(difference(found, expected), most, path.name)


IDS = [1, 7, 300, 22, 9, 9, 150, 3, 88, 41, 5, 260, 17, 2, 119, 64] * 3


class Logits(Case):
    def models(self):
        yield self.model("deepseek"), IDS
        yield self.model("tied", tie_word_embeddings=True, first_k_dense_replace=0, n_shared_experts=3, rope_theta=5e5,
                         rms_norm_eps=1e-5), IDS
        yield self.model("dense", n_routed_experts=0, num_experts_per_tok=0, n_shared_experts=0, head_dim=32), IDS
        yield self.model("normed", n_shared_experts=0, norm_topk_prob=True, first_k_dense_replace=0), IDS
        for name in ("llama", "llama_odd", "mixtral", "mixtral_fused", "qwen3_moe", "olmoe", "qwen2_moe"):
            folder = ROOT / "tests" / "golden" / "families" / name
            rows = json.loads((folder / "config.json").read_text())["vocab_size"]
            yield folder, [token % rows for token in IDS]

    def test_llama_cpp_runs_what_we_write(self):
        for folder, ids in self.models():
            for dtype, most in (("f32", EXACT_INPUTS), ("f16", ROUNDED_INPUTS), ("bf16", ROUNDED_INPUTS)):
                path = self.folder / f"{folder.name}.{dtype}.gguf"
                moe("convert", folder, path, "--dtype", dtype)
                self.agree(path, most, ids)
            self.assertLess(difference(our_logits(self.folder / f"{folder.name}.f32.gguf", ids, self.folder),
                                       our_logits(folder, ids, self.folder)), 1e-7)

    def check_quantisation(self, folder, kind):
        plain, ours, theirs = (self.folder / f"{name}.{kind}.{folder.name}.gguf" for name in ("plain", "ours", "theirs"))
        moe("convert", folder, plain)
        moe("convert", folder, ours, "--quant", kind)
        llama.quantize(plain, theirs, TYPES[kind])
        self.assertEqual(type_names(ours), type_names(theirs), f"{folder.name} {kind}")
        for path in (ours, theirs):
            self.agree(path, ROUNDED_INPUTS, IDS)
            exact = path.with_suffix(".f32.gguf")  # the same numbers, so that nothing is rounded
            moe("convert", path, exact, "--dtype", "f32")
            self.assertLess(difference(our_logits(path, IDS, self.folder), self.theirs(exact, IDS)), EXACT_INPUTS, path.name)

    def test_every_quantisation_in_both_directions(self):
        # Every token goes to all experts: rounding must not change a choice, which the test before looks at.
        small = {"init_std": 0.05, "num_hidden_layers": 3}
        mixed = self.model("mixed", **small, moe_intermediate_size=256, n_routed_experts=2)
        for kind in TYPES:
            self.check_quantisation(mixed, kind)
        for folder in (self.model("narrow", **small, hidden_size=96, n_routed_experts=2),
                       self.model("eight", **small, n_routed_experts=8, num_experts_per_tok=8),
                       self.model("tied", **small, tie_word_embeddings=True, n_routed_experts=2),
                       self.model("deep", init_std=0.03, num_hidden_layers=17, hidden_size=32, n_routed_experts=2)):
            self.check_quantisation(folder, "q4_k_m")

class Tokenizers(Case):
    def compare(self, name, files, texts):
        """The ids of a folder's tokenizer, of a GGUF file with it, of the folder made of that, and of llama.cpp."""
        folder = self.model(name, vocab_size=VOCABULARY[name], hidden_size=32, num_attention_heads=2, num_key_value_heads=2,
                            num_hidden_layers=1, first_k_dense_replace=0)
        for file in files.iterdir():
            shutil.copy(file, folder / file.name)
        path, back = self.folder / f"{name}.gguf", self.folder / f"{name}-back"
        moe("convert", folder, path)
        moe("convert", path, back)
        model = llama.Model(path)
        try:
            for special in (True, False):
                expected = all_ids(folder, texts, special)
                for where in (path, back):
                    self.assertEqual(all_ids(where, texts, special), expected, f"{name} {where.name}")
                self.assertEqual({text: model.ids(text, special) for text in texts}, expected, name)
        finally:
            model.close()

    def unpacked(self, name):
        source, target = SHARED / "data" / "tokenizers" / name, self.folder / f"tokenizer-{name}"
        if not source.is_dir():
            self.skipTest(f"{source} is not there")
        target.mkdir()
        for file in source.iterdir():
            if file.suffix == ".zst":
                (target / file.stem).write_bytes(subprocess.run(["zstd", "-dc", file], check=True, capture_output=True).stdout)
            else:
                shutil.copy(file, target / file.name)
        return target

    def test_published_tokenizers(self):
        for name in ("gpt2", "deepseek-llm", "deepseek_v3", "llama2", "mistral"):
            files = self.unpacked(name)
            if name == "mistral":  # its tokenizer.json puts a blank before some texts only, and is refused
                (files / "tokenizer.json").unlink()
            self.compare(name, files, TEXTS)

    def test_tokenizers_of_llama_cpp_give_its_ids(self):
        cases = SHARED / "data" / "tokenizers" / "llama_cpp_cases"
        if not cases.is_dir():
            self.skipTest(f"{cases} is not there")
        compared = 0
        for packed in sorted(cases.glob("*.gguf.zst")):
            path = self.folder / packed.stem
            path.write_bytes(subprocess.run(["zstd", "-dc", packed], check=True, capture_output=True).stdout)
            texts = (cases / f"{packed.stem}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
            lines = (cases / f"{packed.stem}.out").read_text().split("\n")
            found = all_ids(path, texts, special=False)
            for text, line in zip(texts, lines):
                self.assertEqual(found[text], [int(word) for word in line.split()], f"{packed.stem} {text!r}")
                compared += 1
        self.assertGreater(compared, 100)

    def test_a_tokenizer_of_ours(self):
        corpus = self.folder / "corpus.txt"
        corpus.write_text("\n".join(TEXTS) + (ROOT / "docs" / "training.md").read_text())
        files = self.folder / "files"
        moe("tokenizer", "train", "--vocab-size", 600, "--pattern", "qwen2", "--out", files, corpus)
        self.compare("trained", files, TEXTS)


VOCABULARY = {"gpt2": 50257, "deepseek-llm": 102400, "deepseek_v3": 129280, "llama2": 32000, "mistral": 32768, "trained": 640}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moe", required=True)
    parser.add_argument("--venv")
    known, rest = parser.parse_known_args()
    MOE = os.path.abspath(known.moe)
    use_python_with_packages(known.venv)
    import gguf
    import numpy as np

    import llama

    llama.start()
    unittest.main(argv=[sys.argv[0], *rest])
