#!/usr/bin/env python3
"""Loads folders that `moe convert` writes with `transformers` and compares logits, caches and gradients.

  compare_transformers.py --moe build/moe [--venv build/peers-venv]

Models with a class of their own in `transformers` use it. DeepSeekMoE and our routing methods use modeling_moe.py,
which `moe convert` writes beside them. Needs the packages torch, transformers and safetensors; without them the exit
status is 77, a skip for CTest. MOE_TEST_PYTHON names a Python that has them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from python_packages import use_python_with  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
MOE = None
# Of the logits' root mean square: both programs compute in f32 and add in different orders. Seen: 4e-6.
TOLERANCE = 2e-5


def moe(*words):
    result = subprocess.run([MOE, *map(str, words)], capture_output=True)
    if result.returncode != 0:
        raise AssertionError(f"moe {' '.join(map(str, words))}: {result.stderr.decode()}")
    return result.stdout


def our_logits(model, ids, folder):
    out = folder / "logits.safetensors"
    moe("logits", model, "--tokens", ",".join(map(str, ids)), "--out", out, "--device", "cpu")
    return load_file(out)["logits"].double()


def difference(found, expected):
    return float((found.double() - expected).abs().max() / expected.square().mean().sqrt())


def ids_of(vocabulary, count=17):
    return [(7 * i * i + 3 * i + 1) % vocabulary for i in range(count)]


class Compare(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="moe-transformers-test-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def load(self, source, **options):
        moe("convert", source, self.folder / "model")
        return AutoModelForCausalLM.from_pretrained(
            self.folder / "model", trust_remote_code=True, dtype=torch.float32, **options
        ).eval()

    def check_logits(self, source, count=17):
        model = self.load(source)
        ids = ids_of(model.config.vocab_size, count)
        with torch.no_grad():
            found = model(torch.tensor([ids]), use_cache=False).logits[0]
        self.assertLess(difference(found, our_logits(source, ids, self.folder)), TOLERANCE)
        return model, ids


class GoldenTest(Compare):
    """Each routing method, and dense models."""


class FamilyTest(Compare):
    """Classes of `transformers`, which have several ways to compute experts; the plain one takes any width."""

    def load(self, source):
        return super().load(source, experts_implementation="eager")


class UseTest(Compare):
    def test_a_row_of_600_tokens(self):
        self.check_logits(GOLDEN / "moe_basic", 600)

    def test_text_is_continued_with_a_cache(self):
        for case in ("moe_basic", "moe_gqa_norm", "hash", "stable", "loss_free_sigmoid", "dense"):
            model = self.load(GOLDEN / case)
            ids = ids_of(model.config.vocab_size)
            model.generation_config.eos_token_id = None
            found = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=8)[0].tolist()
            for _ in range(8):
                ids.append(int(our_logits(GOLDEN / case, ids, self.folder)[-1].argmax()))
            self.assertEqual(found, ids, case)
            shutil.rmtree(self.folder / "model")

    def test_padded_rows_equal_each_alone(self):
        for case in ("moe_basic", "expert_choice", "switch_original"):
            model = self.load(GOLDEN / case)
            rows = [ids_of(model.config.vocab_size, 17), ids_of(model.config.vocab_size, 9)]
            alone = [our_logits(GOLDEN / case, row, self.folder) for row in rows]
            for left in (True, False):
                padded, mask = [], []
                for row in rows:
                    padding = [0] * (17 - len(row))
                    padded.append(padding + row if left else row + padding)
                    mask.append([0] * len(padding) + [1] * len(row) if left else [1] * len(row) + [0] * len(padding))
                with torch.no_grad():
                    found = model(torch.tensor(padded), attention_mask=torch.tensor(mask), use_cache=False).logits
                for row, expected in enumerate(alone):
                    real = found[row][torch.tensor(mask[row], dtype=torch.bool)]
                    self.assertLess(difference(real, expected), TOLERANCE, f"{case}, row {row}")
            shutil.rmtree(self.folder / "model")

    def test_every_weight_has_the_gradient_of_the_golden_values(self):
        model = self.load(GOLDEN / "moe_basic")
        ids = torch.tensor([ids_of(model.config.vocab_size)])
        loss = model(ids, labels=ids).loss
        loss.backward()
        rows = our_logits(GOLDEN / "moe_basic", ids[0].tolist(), self.folder)[:-1]
        expected = torch.nn.functional.cross_entropy(rows, ids[0, 1:])
        self.assertAlmostEqual(float(loss.detach()), float(expected), delta=1e-5)
        missing = [name for name, weight in model.named_parameters() if weight.grad is None and "experts." not in name]
        self.assertEqual(missing, [])

    def test_a_folder_that_transformers_saves_again_is_read_here(self):
        model = self.load(GOLDEN / "loss_free_sigmoid")
        model.save_pretrained(self.folder / "again")
        ids = ids_of(model.config.vocab_size)
        expected = our_logits(GOLDEN / "loss_free_sigmoid", ids, self.folder)
        self.assertTrue(our_logits(self.folder / "again", ids, self.folder).equal(expected))

    def test_bf16_keeps_the_bias_of_the_choice_in_f32(self):
        moe("convert", GOLDEN / "loss_free_sigmoid", self.folder / "model", "--dtype", "bf16")
        model = AutoModelForCausalLM.from_pretrained(self.folder / "model", trust_remote_code=True, dtype="auto")
        types = {name.rsplit(".", 1)[-1]: weight.dtype for name, weight in model.named_parameters()}
        self.assertEqual(types["e_score_correction_bias"], torch.float32)
        self.assertEqual(types["weight"], torch.bfloat16)

    def test_a_model_that_sees_later_tokens_does_not_generate(self):
        with self.assertRaisesRegex(ValueError, "expert_choice cannot generate"):
            self.load(GOLDEN / "expert_choice").generate(torch.tensor([[1, 2]]))


def add_cases():
    def test_of(folder):
        def test(self):
            self.check_logits(folder)

        return test

    for group, top in ((GoldenTest, GOLDEN), (FamilyTest, GOLDEN / "families")):
        for folder in sorted(top.iterdir()):
            if (folder / "config.json").exists() and any(folder.glob("model*.safetensors")):
                setattr(group, f"test_{folder.name}", test_of(folder))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moe", required=True)
    parser.add_argument("--venv")
    options, rest = parser.parse_known_args()
    use_python_with(["torch", "transformers", "safetensors"], options.venv)
    global MOE, torch, load_file, AutoModelForCausalLM
    MOE = str(Path(options.moe).resolve())
    # Code beside a model is copied to a cache folder; the test's own goes away with it.
    cache = tempfile.mkdtemp(prefix="moe-transformers-cache-")
    os.environ.update(HF_HOME=cache, HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
    import torch
    import transformers
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(2)
    add_cases()
    try:
        unittest.main(argv=[sys.argv[0], *rest])
    finally:
        shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main()
