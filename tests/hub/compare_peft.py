#!/usr/bin/env python3
"""Adapters that `moe train` writes, in PEFT, and adapters that PEFT writes, in `moe`: the same logits.

  compare_peft.py --moe build/moe [--venv build/peers-venv]

Needs the packages torch, transformers, peft and safetensors; without them the exit status is 77, a skip for CTest.
MOE_TEST_PYTHON names a Python that has them.
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
MOE = None
TOLERANCE = 2e-5  # of the logits' root mean square: two programs' sums in f32
VOCABULARY = 320
SIZES = dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=64, initializer_range=0.15)

RUN = """
[run]
dir = "{folder}/run"
[model]
from = "{folder}/base"
[data]
train = "{folder}/dataset"
sequence_length = 32
rows_per_step = 2
microbatch_rows = 1
[train]
steps = 12
parameters = "lora"
[lora]
rank = 4
rank_experts = {rank_experts}
alpha = 6
targets = [{targets}]
[optimizer]
learning_rate = 0.02
"""


def moe(*words):
    result = subprocess.run([MOE, *map(str, words)], capture_output=True)
    if result.returncode != 0:
        raise AssertionError(f"moe {' '.join(map(str, words))}: {result.stderr.decode()}")
    return result.stdout


def difference(found, expected):
    return float((found.double() - expected).abs().max() / expected.square().mean().sqrt())


def ids_of(count=17):
    return [(7 * i * i + 3 * i + 1) % VOCABULARY for i in range(count)]


class Compare(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="moe-peft-test-"))
        self.addCleanup(shutil.rmtree, self.folder)
        torch.manual_seed(1)

    def our_logits(self, model, *options):
        out = self.folder / "logits.safetensors"
        moe("logits", model, "--tokens", ",".join(map(str, ids_of())), "--out", out, "--device", "cpu", *options)
        return load_file(out)["logits"].double()

    def their_logits(self, model):
        with torch.no_grad():
            return model(torch.tensor([ids_of()]), use_cache=False).logits[0]

    def make_base(self, config):
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for name, value in model.named_parameters():
                if "gate.weight" in name or name.endswith("router.weight"):
                    value.mul_(3)  # choices far from ties
        model.save_pretrained(self.folder / "base")

    def make_dataset(self):
        text = self.folder / "text.txt"
        text.write_text("\n".join(path.read_text()[:2000] for path in sorted((ROOT / "src/base").glob("*.h"))))
        moe("tokenizer", "train", "--vocab-size", VOCABULARY, "--out", self.folder / "tokenizer", text)
        moe("data", "--tokenizer", self.folder / "tokenizer", "--out", self.folder / "dataset", text)

    def base_in_python(self):
        options = {} if self.remote else {"experts_implementation": "eager"}
        return AutoModelForCausalLM.from_pretrained(
            self.folder / "base", dtype=torch.float32, trust_remote_code=self.remote, **options
        ).eval()

    remote = False

    def check_ours_in_peft(self, targets, rank_experts):
        self.make_dataset()
        words = ", ".join(f'"{target}"' for target in targets)
        file = self.folder / "run.toml"
        file.write_text(RUN.format(folder=self.folder, targets=words, rank_experts=rank_experts))
        moe("train", file, "--device", "cpu")
        ours, base = self.our_logits(self.folder / "run"), self.our_logits(self.folder / "base")
        self.assertGreater(difference(ours, base), 0.01, "the adapter changes something")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a tensor that PEFT did not place is only a warning there
            # PEFT 0.21 looks for the keys of fused experts among modules alone, and uses them all the same. A rank or a
            # scale that it left out would show below.
            warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys did not match any targeted module")
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            model = PeftModel.from_pretrained(self.base_in_python(), self.folder / "run" / "latest").eval()
        saved = load_file(self.folder / "run" / "latest" / "adapter_model.safetensors")
        placed = [name for name, _ in model.named_parameters() if ".lora_" in name]
        self.assertEqual(len(placed), len(saved))
        self.assertLess(difference(self.their_logits(model), ours), TOLERANCE)

    def check_theirs_in_moe(self, settings):
        model = get_peft_model(self.base_in_python(), settings).eval()
        with torch.no_grad():
            for name, value in model.named_parameters():
                if ".lora_B." in name:
                    value.normal_(0, 0.05)
        model.save_pretrained(self.folder / "theirs")
        ours = self.our_logits(self.folder / "base", "--lora", self.folder / "theirs")
        self.assertGreater(difference(ours, self.our_logits(self.folder / "base")), 0.01)
        self.assertLess(difference(self.their_logits(model), ours), TOLERANCE)
        merged = self.folder / "merged"
        moe("merge", self.folder / "base", "--lora", self.folder / "theirs", "--out", merged)
        self.assertLess(difference(self.our_logits(merged), ours), TOLERANCE)


class MixtralTest(Compare):
    def setUp(self):
        super().setUp()
        self.make_base(MixtralConfig(**SIZES, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2))

    def test_peft_reads_ours(self):
        self.check_ours_in_peft(["attention", "experts"], 4)

    def test_ranks_of_experts_may_differ(self):
        self.check_ours_in_peft(["attention", "experts", "head"], 3)

    def test_experts_alone(self):
        self.check_ours_in_peft(["experts"], 4)

    def test_we_read_pefts(self):
        self.check_theirs_in_moe(
            LoraConfig(r=5, lora_alpha=7, target_modules=["q_proj", "o_proj"],
                       target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"])
        )

    def test_we_read_pefts_of_one_parameter(self):
        self.check_theirs_in_moe(LoraConfig(r=4, lora_alpha=7, target_modules=[],
                                            target_parameters=["mlp.experts.gate_up_proj"]))


class Qwen3MoeTest(Compare):
    def setUp(self):
        super().setUp()
        self.make_base(Qwen3MoeConfig(**SIZES, head_dim=8, intermediate_size=40, moe_intermediate_size=24, num_experts=4,
                                      num_experts_per_tok=2, norm_topk_prob=True, decoder_sparse_step=1,
                                      mlp_only_layers=[]))

    def test_peft_reads_ours(self):
        self.check_ours_in_peft(["attention", "experts"], 2)

    def test_we_read_pefts_with_patterns(self):
        self.check_theirs_in_moe(
            LoraConfig(r=4, lora_alpha=7, use_rslora=True, target_modules=["q_proj", "v_proj"],
                       rank_pattern={"v_proj": 2}, alpha_pattern={"layers.1.self_attn.q_proj": 3})
        )


class DeepseekTest(Compare):
    """Our own class, whose experts are modules."""

    remote = True

    def setUp(self):
        super().setUp()
        file = self.folder / "sizes.toml"
        file.write_text("[model]\nvocab_size = 320\nhidden_size = 32\nnum_hidden_layers = 3\nnum_attention_heads = 4\n"
                        "intermediate_size = 48\nfirst_k_dense_replace = 1\nn_shared_experts = 1\nn_routed_experts = 4\n"
                        "num_experts_per_tok = 2\nmoe_intermediate_size = 16\nmax_position_embeddings = 64\n"
                        "[data]\nsequence_length = 32\nrows_per_step = 1\n[train]\nsteps = 1\ninit_std = 0.15\n")
        moe("init", "--config", file, "--out", self.folder / "base")

    def test_peft_reads_ours(self):
        self.check_ours_in_peft(["attention", "experts", "shared", "dense", "head"], 2)

    def test_we_read_pefts(self):
        self.check_theirs_in_moe(LoraConfig(r=3, lora_alpha=5, target_modules=["k_proj", "gate_proj", "down_proj"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moe", required=True)
    parser.add_argument("--venv")
    options, rest = parser.parse_known_args()
    use_python_with(["torch", "transformers", "peft", "safetensors"], options.venv)
    MOE = Path(options.moe).resolve()
    # Code beside a model is copied to a cache folder; the test's own goes away with it.
    cache = tempfile.mkdtemp(prefix="moe-peft-cache-")
    os.environ.update(CUDA_VISIBLE_DEVICES="", HF_HOME=cache, HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
    import warnings

    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, MixtralConfig, Qwen3MoeConfig

    torch.set_num_threads(2)
    try:
        unittest.main(argv=[sys.argv[0], *rest])
    finally:
        shutil.rmtree(cache, ignore_errors=True)
