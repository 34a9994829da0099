"""What the scripts share that compare our GGUF models with llama.cpp: logits, ids, temporary folders. Import it after
packages.start()."""

import json
import os
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy as np

import llama
import packages

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
# Differences are roots of mean squares, relative to those of the logits. Both programs compute the same numbers in f32 and add
# in different orders:
EXACT_INPUTS = 2e-5

llama.start()


def moe(*words, text=None):
    result = subprocess.run([packages.MOE, *map(str, words)], capture_output=True, input=text)
    if result.returncode != 0:
        raise AssertionError(f"moe {' '.join(map(str, words))}: {result.stderr.decode()}")
    return result.stdout


def our_logits(model, ids, folder, *options):
    """Weights in blocks stay as they are, unless the options say otherwise (--dtype f32)."""
    out = folder / "logits.safetensors"
    moe("logits", model, "--tokens", ",".join(map(str, ids)), "--out", out, "--device", "cpu", *options)
    data = out.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    shape = json.loads(data[8 : 8 + length])["logits"]["shape"]
    return np.frombuffer(data[8 + length :], dtype=np.float32).reshape(shape)


def our_ids(tokenizer, text, special=True):
    words = ["tokenizer", "encode", "--tokenizer", tokenizer, *([] if special else ["--no-special"])]
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
