"""Adapters from the command line: `moe train` with train.parameters = "lora", --lora, `moe merge`. Usage: lora_test.py PATH_OF_MOE"""

import json
import pathlib
import re
import shutil
import tempfile
import unittest

from commands import SmallRun
from support import ROOT, moe

# DeepSeekMoE 16B's configuration, without weights.
CONFIG_16B = {"architectures": ["DeepseekForCausalLM"], "model_type": "deepseek", "hidden_size": 2048,
              "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 10944,
              "moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
              "first_k_dense_replace": 1, "moe_layer_freq": 1, "vocab_size": 102400, "max_position_embeddings": 4096,
              "rms_norm_eps": 1e-6, "rope_theta": 10000, "hidden_act": "silu", "norm_topk_prob": False,
              "scoring_func": "softmax", "tie_word_embeddings": False, "aux_loss_alpha": 0.001, "seq_aux": True}

PROMPT = ["--prompt", "#include", "--max-new-tokens", "12", "--temperature", "0"]


class LoraTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-lora-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.base)
        cls.small = SmallRun(cls.base, tokenizer=["--pattern", "qwen2"])  # one that a GGUF file can have
        cls.adapter = cls.base / "lora"
        cls.settings = ["--set", f"model.from={cls.small.run}", "--set", "train.parameters=lora", "--set", "lora.rank=4",
                        "--set", "optimizer.learning_rate=0.02", "--set", "train.steps=20"]
        cls.said = moe("train", cls.small.run_file, "--set", f"run.dir={cls.adapter}", *cls.settings).stderr

    def loss(self, *arguments):
        out = self.base / "scores.json"
        moe("eval", "loss", *arguments, self.small.text, "--json", out)
        return json.loads(out.read_text())["all"]["loss"]

    def generated(self, *arguments):
        return moe("generate", *arguments, *PROMPT).stdout

    def test_the_start_says_what_trains_and_it_adds_up(self):
        rows = [line.split("  ") for line in self.said.splitlines()]
        kinds = [row[0] for row in rows]
        for kind in ("attention", "adapters of attention", "adapters of routed experts", "adapters of shared experts", "sum"):
            self.assertIn(kind, kinds)
        dry = moe("train", self.small.run_file, "--dry-run", "--set", f"run.dir={self.base / 'no'}", *self.settings).stdout
        self.assertIn("adapters of attention", dry)
        self.assertNotIn("adapters of", moe("train", self.small.run_file, "--dry-run", "--set",
                                            f"run.dir={self.base / 'no'}").stdout)

    def test_tensors_that_cannot_be_in_blocks_are_counted_before_the_work(self):
        out = self.base / "narrow"
        settings = [*self.settings, "--set", "lora.base=nf4", "--set", f"run.dir={out}"]
        counted = r"warning: lora.base = nf4: 38 of 38 tensors get f16 instead, because their rows \(of 8 or 16 numbers\)"
        for more in (["--dry-run"], ["--set", "train.steps=1", "--set", "sample.every=0"]):
            said = moe("train", self.small.run_file, *settings, *more).stderr
            self.assertEqual(len(re.findall(counted, said)), 1, said)
            self.assertNotIn("step 1", said.partition("lora.base = nf4")[0])

    def test_a_run_of_adapters_stands_for_its_model_with_them(self):
        base, adapted = self.loss(self.small.run), self.loss(self.small.run, "--lora", self.adapter)
        self.assertLess(adapted, base - 0.05)
        self.assertEqual(self.loss(self.adapter), adapted)
        self.assertEqual(self.loss(self.adapter / "latest"), adapted)
        self.assertEqual(self.generated(self.adapter), self.generated(self.small.run, "--lora", self.adapter))
        self.assertEqual(self.loss(self.small.run, "--lora", f"{self.adapter}:0"), base)
        self.assertEqual(self.generated(self.small.run, "--lora", f"{self.adapter}:0"), self.generated(self.small.run))
        both = self.loss(self.small.run, "--lora", f"{self.adapter}:0.5", "--lora", f"{self.adapter}:0.5")
        self.assertAlmostEqual(both, adapted, places=5)

    def test_chat_talks_with_adapters(self):
        flags = ["--temperature", "0", "--max-new-tokens", "12"]
        with_option = moe("chat", self.small.run, "--lora", self.adapter, *flags, input="Hello\n").stdout
        self.assertEqual(moe("chat", self.adapter, *flags, input="Hello\n").stdout, with_option)

    def test_a_merged_model_needs_no_option(self):
        adapted = self.loss(self.adapter)
        for name, arguments in (("one", [self.small.run, "--lora", self.adapter]), ("two", [self.adapter]),
                                ("three", [self.small.run, "--lora", f"{self.adapter}:0.25", "--lora", f"{self.adapter}:0.75"])):
            out = self.base / name
            moe("merge", *arguments, "--out", out)
            self.assertAlmostEqual(self.loss(out), adapted, places=4)
        self.assertEqual(self.generated(self.base / "one"), self.generated(self.adapter))
        gguf = self.base / "merged.gguf"
        moe("merge", self.adapter, "--out", gguf, "--dtype", "f32")
        self.assertAlmostEqual(self.loss(gguf), adapted, places=4)

    def test_adapters_work_beside_blocks(self):
        model, adapter = self.base / "wide", self.base / "wide-lora"
        rows_of_blocks = ["--set", "model.hidden_size=32", "--set", "model.moe_intermediate_size=32"]
        moe("train", self.small.run_file, "--set", f"run.dir={model}", *rows_of_blocks)
        moe("train", self.small.run_file, "--set", f"run.dir={adapter}", *self.settings, *rows_of_blocks, "--set",
            f"model.from={model}")
        plain, adapted = self.loss(model), self.loss(adapter)
        self.assertLess(adapted, plain - 0.05)
        for quant, places in (("q8_0", 2), ("q4_0", 1)):
            gguf = self.base / f"{quant}.gguf"
            moe("convert", model, gguf, "--quant", quant)
            said = moe("generate", gguf, "--lora", adapter, *PROMPT).stderr
            self.assertRegex(said, rf"weights: [^;]*of {quant}")
            in_blocks = self.loss(gguf, "--lora", adapter)
            self.assertAlmostEqual(in_blocks, adapted, places=places)
            self.assertLess(in_blocks, self.loss(gguf) - 0.04)
            self.assertEqual(self.loss(gguf, "--lora", f"{adapter}:0"), self.loss(gguf))
        self.assertAlmostEqual(self.loss(model, "--dtype", "f16", "--lora", adapter), adapted, places=2)

    def test_a_chat_counts_the_adapters_among_the_weights(self):
        flags = ["--temperature", "0", "--max-new-tokens", "2"]
        large = self.base / "large"
        moe("train", self.small.run_file, "--set", f"run.dir={large}", *self.settings, "--set", "lora.rank=400", "--set",
            "train.steps=1")
        parameters = lambda said: float(re.search(r"([0-9.]+) M parameters", said.stderr).group(1))
        plain = moe("chat", self.small.run, *flags, input="Hello\n")
        with_adapter = moe("chat", self.small.run, "--lora", large, *flags, input="Hello\n")
        generated = moe("generate", self.small.run, "--lora", large, *PROMPT)
        self.assertGreater(parameters(with_adapter), parameters(plain))
        self.assertEqual(parameters(with_adapter), parameters(generated))

    def test_a_dry_run_plans_for_a_gpu_that_is_not_here(self):
        folder = self.base / "16b"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(CONFIG_16B))
        page = " ".join((ROOT / "docs/finetuning.md").read_text().split())
        for name, gigabytes, most in (("lora-16b", 80, 74.5), ("qlora-16b", 24, 22.36)):
            plan = moe("train", ROOT / "configs" / f"{name}.toml", "--set", f"model.from={folder}", "--set", "train.epochs=0",
                       "--set", "train.steps=1000", "--set", f"run.dir={self.base / 'no'}", "--dry-run", "--device", "cuda",
                       "--memory-limit", f"{gigabytes}GB", check=False)
            if "without CUDA" in plan.stderr:
                self.skipTest("the program was built without CUDA")
            self.assertEqual(plan.returncode, 0, plan.stderr)
            self.assertIn("which is not here", plan.stdout)
            self.assertNotIn("does not fit", plan.stderr)
            needed, limit = map(float, re.search(r"memory +([0-9.]+) GiB of ([0-9.]+) GiB", plan.stdout).groups())
            self.assertLess(needed, limit)
            self.assertAlmostEqual(limit, most, places=1)
            rows = re.search(r"microbatches of (\d+) rows", plan.stdout)[1]
            line = f"`memory {needed:.2f} GiB of {limit:.2f} GiB`, in microbatches of {rows} rows"
            self.assertTrue(line in page, f"docs/finetuning.md has another figure of the plan of {name}, expected {line}")
            self.assertIn("balance.alpha_expert = 0.001", plan.stdout)
        small = moe("train", ROOT / "configs/qlora-16b.toml", "--set", f"model.from={folder}", "--set", "train.epochs=0",
                    "--set", "train.steps=1000", "--set", f"run.dir={self.base / 'no'}", "--dry-run", "--device", "cuda",
                    "--memory-limit", "8GB")
        self.assertIn("does not fit a GPU of 7.45 GiB, which is not here", small.stderr)

    def test_a_resumed_run_is_the_run(self):
        again = self.base / "again"
        moe("train", self.small.run_file, "--set", f"run.dir={again}", *self.settings, "--set", "checkpoint.every=10",
            "--set", "checkpoint.keep_last=9")
        shutil.rmtree(again / "step-000020", ignore_errors=True)
        for step in again.glob("step-*20"):
            shutil.rmtree(step)
        (again / "latest").unlink()
        moe("train", self.small.run_file, "--resume", "--set", f"run.dir={again}", *self.settings, "--set",
            "checkpoint.every=10", "--set", "checkpoint.keep_last=9")
        file = "latest/adapter_model.safetensors"
        self.assertEqual((again / file).read_bytes(), (self.adapter / file).read_bytes())

    def test_a_random_model_has_no_adapters(self):
        out = self.base / "random"
        moe("init", "--config", self.small.run_file, *self.settings, "--out", out)
        self.assertNotIn("lora_", moe("inspect", out).stdout)

    def test_what_cannot_be_is_refused_in_a_sentence(self):
        cases = [
            (["generate", self.small.run, "--lora", self.small.run, *PROMPT], "has no adapter_config.json"),
            *((["generate", self.small.run, "--lora", f"{self.adapter}:{scale}", *PROMPT], f'"{scale}" behind the colon is not a scale')
              for scale in ("much", "", "nan", "inf", "-inf", "0x10", " 1", "1 ", "1e400", "1e7", "-1000001", "1,5")),
            (["convert", self.adapter, self.base / "out"], "is a LoRA adapter, expected a whole model"),
            (["inspect", self.adapter], "is a LoRA adapter, expected a whole model"),
            (["merge", self.small.run, "--out", self.base / "out"], "--lora is missing"),
            (["merge", self.adapter, "--out", self.small.run], "exists already"),
            (["train", self.small.run_file, "--set", f"run.dir={self.base / 'no'}", "--set", "train.parameters=lora"],
             "without model.from"),
        ]
        for arguments, said in cases:
            result = moe(*arguments, check=False)
            self.assertNotEqual(result.returncode, 0)
            self.assertIn(said, result.stderr)
            self.assertFalse((self.base / "out").exists())
        gone = self.base / "gone"
        shutil.copytree(self.adapter / "latest", gone)
        settings = json.loads((gone / "adapter_config.json").read_text())
        settings["base_model_name_or_path"] = "somebody/model"
        (gone / "adapter_config.json").write_text(json.dumps(settings))
        (gone / "checksums.json").unlink()
        self.assertIn("somebody/model, which is not there; give the model's folder, and --lora",
                      moe("generate", gone, *PROMPT, check=False).stderr)


if __name__ == "__main__":
    unittest.main()
