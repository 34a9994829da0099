#!/usr/bin/env python3
"""Compares our GGUF models with llama.cpp: it loads and runs what we write, and we run what it writes.

  compare_llama_cpp.py --moe build/moe [--venv build/venv]

Needs the Python packages llama-cpp-python (built from source), gguf and numpy; exit status 77 (a skip for CTest) without
them. MOE_TEST_PYTHON names a Python that has them.
"""

import json
import os
import shutil
import subprocess
import unittest

import packages

ARGUMENTS = packages.start(__doc__)  # the imports below need its Python

import gguf  # noqa: E402
import numpy as np  # noqa: E402

import llama  # noqa: E402
import made_models  # noqa: E402
from common import EXACT_INPUTS, ROOT, SHARED, Case, all_ids, difference, moe, our_logits  # noqa: E402
from zst_files import read_zst  # noqa: E402

TYPES = {"f16": 1, "q8_0": 7, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q4_k_m": 15, "q5_k_m": 17, "q6_k": 18}
QUANTISED = [kind for kind in TYPES if kind != "f16"]
# llama.cpp also rounds the inputs of products with weights of other types; we round those beside blocks, in groups of 32. By type, the rounding's own size
# relative to the input: f16 and bf16 have errors even within half a unit of the last place, 2^-11 and 2^-8 relative to the
# power of two below a number (a factor of 1/sqrt 3 for even errors, 0.72 for numbers between the powers). For other types
# inputs are 8-bit integers whose unit is the block's largest number / 127, and errors are even within half of one: 1/sqrt 12
# of a unit. The largest of 32 normal numbers is about 2.3, of 256 about 3.0 times their root mean square.
INPUT_ERROR = {"f16": 2**-11 * 0.72 / 3**0.5, "bf16": 2**-8 * 0.72 / 3**0.5}
INPUT_ERROR |= {kind: 2.3 / 127 / 12**0.5 for kind in ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1")}
INPUT_ERROR |= {kind: 3.0 / 127 / 12**0.5 for kind in ("q4_k_m", "q5_k_m", "q6_k")}
TEXTS = ["Once upon a time, there was a little girl named Lily.", "  two blanks\n\n\ttabs and\r\nlines \n\n\n x\n",
         "It's 1234567 o'clock; don't SHOUT'S!", "Größe, naïve, 你好，世界。こんにちは", "emoji 🙂🏳️‍🌈 and \u00a0 spaces\u3000",
         "def f(x):     return x**2  # ok", "a", " ", "   ", "<s> </s> <|endoftext|> text", "x" * 300, "½ ⅔ Ⅷ ٣٤"]


def rounding_tolerance(kind, layers):
    """A path through the model has four products in each layer (q, k, v; o; gate, up; down) and the head's; their errors are
    independent and pass through random weights at their relative size. Twice that: SwiGLU multiplies two of them, and few
    logits of one model scatter around the expected square."""
    return 2 * INPUT_ERROR[kind] * (4 * layers + 1) ** 0.5


def type_names(path):
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


IDS = [1, 7, 300, 22, 9, 9, 150, 3, 88, 41, 5, 260, 17, 2, 119, 64] * 3


class Logits(Case):
    def test_llama_cpp_runs_what_we_write_in_f32(self):
        """Weights are large, so that routes and attention differ from token to token."""
        folders = [
            self.model("deepseek"),
            self.model("tied", tie_word_embeddings=True, first_k_dense_replace=0, n_shared_experts=3, rope_theta=5e5,
                       rms_norm_eps=1e-5),
            self.model("dense", n_routed_experts=0, num_experts_per_tok=0, n_shared_experts=0, head_dim=32),
            self.model("normed", n_shared_experts=0, norm_topk_prob=True, first_k_dense_replace=0),
            *(made_models.write(self.folder / f"{family}-drawn", family, std=0.12, **few_of_many(family))
              for family in made_models.FAMILIES),
            *(ROOT / "tests" / "golden" / "families" / name
              for name in ("llama", "llama_odd", "mixtral", "mixtral_fused", "qwen3_moe", "olmoe", "qwen2_moe")),
        ]
        for folder in folders:
            rows = json.loads((folder / "config.json").read_text())["vocab_size"]
            ids = [token % rows for token in IDS]
            path = self.folder / f"{folder.name}.f32.gguf"
            moe("convert", folder, path, "--dtype", "f32")
            self.agree(path, EXACT_INPUTS, ids)
            self.assertLess(difference(our_logits(path, ids, self.folder), our_logits(folder, ids, self.folder)), 1e-7)

    def check_rounded(self, path, kind, layers):
        """What llama.cpp computes with its kernels of the type, and what it computes with the same numbers as f32. Our own
        kernels of blocks are no further from the latter than its are. Rows of 32 are rounded alike, so there the two errors
        are nearly equal, and either may be the larger one by a little."""
        exact = path.with_suffix(".f32.gguf")
        moe("convert", path, exact, "--dtype", "f32")
        expected, theirs = self.theirs(exact, IDS), self.theirs(path, IDS)
        exact.unlink()
        found = our_logits(path, IDS, self.folder, "--dtype", "f32")
        self.assertLess(difference(found, expected), EXACT_INPUTS, path.name)
        self.assertGreater(float(np.std(theirs)), 0.05)
        self.assertLess(difference(found, theirs), rounding_tolerance(kind, layers), path.name)
        ours = difference(our_logits(path, IDS, self.folder), found)
        if os.environ.get("MOE_TEST_PRINT"):
            print(f"{path.name}: llama.cpp {difference(theirs, found):.2e}, ours {ours:.2e}")
        self.assertLess(ours, 1.1 * difference(theirs, found), path.name)

    def check_plain(self, folder):
        """f16 and bf16; llama.cpp's own program writes f16 too."""
        layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
        plain, theirs = self.folder / f"plain.{folder.name}.gguf", self.folder / f"theirs.f16.{folder.name}.gguf"
        moe("convert", folder, plain)
        llama.quantize(plain, theirs, TYPES["f16"])
        for kind in ("f16", "bf16"):
            path = self.folder / f"ours.{kind}.{folder.name}.gguf"
            moe("convert", folder, path, "--dtype", kind)
            self.check_rounded(path, kind, layers)
        self.assertEqual(type_names(self.folder / f"ours.f16.{folder.name}.gguf"), type_names(theirs), folder.name)
        self.check_rounded(theirs, "f16", layers)

    def check_quantisation(self, folder, kind):
        layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
        plain, ours, theirs = (self.folder / f"{name}.{kind}.{folder.name}.gguf" for name in ("plain", "ours", "theirs"))
        moe("convert", folder, plain)
        moe("convert", folder, ours, "--quant", kind)
        llama.quantize(plain, theirs, TYPES[kind])
        self.assertEqual(type_names(ours), type_names(theirs), f"{folder.name} {kind}")
        for path in (ours, theirs):
            self.check_rounded(path, kind, layers)

    def test_every_type_of_every_family_in_both_directions(self):
        """Every token goes to all experts: rounding must change no choice. The test in f32 looks at choices."""
        for family in made_models.FAMILIES:
            folder = made_models.write(self.folder / family, family)
            self.check_plain(folder)
            for kind in QUANTISED:
                self.check_quantisation(folder, kind)

    def test_every_quantisation_of_deepseek_in_both_directions(self):
        small = {"init_std": 0.05, "num_hidden_layers": 3}
        mixed = self.model("mixed", **small, moe_intermediate_size=256, n_routed_experts=2)
        self.check_plain(mixed)
        for kind in QUANTISED:
            self.check_quantisation(mixed, kind)
        for folder in (self.model("narrow", **small, hidden_size=96, n_routed_experts=2),
                       self.model("eight", **small, n_routed_experts=8, num_experts_per_tok=8),
                       self.model("tied", **small, tie_word_embeddings=True, n_routed_experts=2),
                       self.model("deep", init_std=0.03, num_hidden_layers=17, hidden_size=32, n_routed_experts=2)):
            self.check_quantisation(folder, "q4_k_m")

    def test_widths_that_are_no_whole_blocks(self):
        """Rows of 96 and 320 numbers are no blocks of 256; the second family has a tied head and eight experts."""
        narrow = {"hidden_size": 96, "moe_intermediate_size": 160, "head_dim": 32}
        folders = [made_models.write(self.folder / "qwen3-narrow", "qwen3_moe", **narrow, tie_word_embeddings=True),
                   made_models.write(self.folder / "qwen2-narrow", "qwen2_moe", hidden_size=320, moe_intermediate_size=96,
                                     shared_expert_intermediate_size=224),
                   made_models.write(self.folder / "olmoe-narrow", "olmoe", hidden_size=320, intermediate_size=96),
                   made_models.write(self.folder / "mixtral-eight", "mixtral", num_local_experts=8, num_experts_per_tok=8),
                   made_models.write(self.folder / "llama-narrow", "llama", hidden_size=320, intermediate_size=864)]
        for folder in folders:
            for kind in ("q4_0", "q4_k_m", "q5_k_m", "q6_k"):
                self.check_quantisation(folder, kind)


class SplitFiles(Case):
    def split(self, source, most_tensors):
        """The file's content in several files, as the package `gguf` and llama.cpp name them."""
        reader = gguf.GGUFReader(source)
        field = reader.fields["general.architecture"]
        writer = gguf.GGUFWriter(source.with_name("split.gguf"), bytes(field.parts[field.data[0]]).decode(),
                                 split_max_tensors=most_tensors)
        for name, field in reader.fields.items():
            if name.startswith("GGUF.") or name == "general.architecture":
                continue
            kind, rest = field.types[0], field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), kind, rest)
        for tensor in reader.tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return sorted(self.folder.glob("split-*.gguf"))

    def refused(self, path):
        result = subprocess.run([packages.MOE, "inspect", path], capture_output=True, text=True)
        self.assertEqual(result.returncode, 1, result.stdout)
        return result.stderr

    def test_models_in_several_files(self):
        whole = self.folder / "whole.gguf"
        moe("convert", made_models.write(self.folder / "model", "qwen2_moe"), whole, "--quant", "q4_k_m")
        parts = self.split(whole, 20)
        self.assertGreater(len(parts), 2)
        expected = our_logits(whole, IDS, self.folder)
        self.assertTrue(np.array_equal(our_logits(parts[0], IDS, self.folder), expected))
        self.assertTrue(np.array_equal(self.theirs(parts[0], IDS), self.theirs(whole, IDS)))
        moe("convert", parts[0], self.folder / "joined.gguf", "--quant", "q4_k_m")
        self.assertEqual(type_names(self.folder / "joined.gguf"), type_names(whole))
        self.assertIn(f"give the first, {parts[0].name}", self.refused(parts[1]))
        held = parts[1].rename(self.folder / "held")
        self.assertIn(parts[1].name, self.refused(parts[0]))
        shutil.copy(parts[2], parts[1])
        self.assertIn("it is file 3 of", self.refused(parts[0]))
        held.rename(parts[1])
        few = parts[0].rename(self.folder / "few-00001-of-00002.gguf")
        self.assertIn(f"expected a name that ends in -00001-of-{len(parts):05}.gguf", self.refused(few))


def few_of_many(family):
    """Two of six experts for a token, for families with experts."""
    if family == "llama":
        return {}
    return {"num_local_experts" if family == "mixtral" else "num_experts": 6, "num_experts_per_tok": 2}


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
                (target / file.stem).write_bytes(read_zst(file))
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
            path.write_bytes(read_zst(packed))
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
    unittest.main(argv=ARGUMENTS)
