"""Every routing method from a run file: trained, resumed bit for bit, saved, loaded, evaluated, and used to write text.

Usage: methods_test.py PATH_OF_MOE
"""

import json
import pathlib
import shutil
import tempfile
import unittest

from support import ROOT, log_without_times, make_dataset, moe

METHODS = """dense soft_mixture noisy_topk hash hash_balanced switch switch_original gshard gshard_original st_moe
expert_choice stable_moe mixtral deepseekmoe device_limited loss_free loss_free_softmax""".split()
CAPACITIES = {"switch_original", "gshard_original", "st_moe"}

RUN_FILE = """
[run]
dir = "{run}"
[data]
train = "{folder}/dataset"
valid = "{folder}/dataset"
sequence_length = 32
rows_per_step = 4
microbatch_rows = 2
[model]
method = "{method}"
hidden_size = 24
num_hidden_layers = 2
num_attention_heads = 2
n_routed_experts = 8
{more}
moe_intermediate_size = 8
intermediate_size = 32
max_position_embeddings = 64
[train]
steps = 30
[optimizer]
learning_rate = 3e-3
[eval]
every = 15
[checkpoint]
every = 15
"""


class MethodsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-methods-test-"))
        texts = sorted((ROOT / "src").rglob("*.h"))[:8]
        cls.files = make_dataset(cls.base, {"headers": [path.read_text() for path in texts]})

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def run_file(self, method, name):
        more = "" if method == "dense" else "n_shared_experts = 1"
        if method in ("deepseekmoe", "loss_free", "loss_free_softmax", "noisy_topk", "device_limited"):
            more += "\nnum_experts_per_tok = 3"
        path = self.base / f"{name}.toml"
        path.write_text(RUN_FILE.format(run=self.base / name, folder=self.base, method=method, more=more))
        return path

    def check(self, method):
        straight, stopped = self.base / f"{method}-straight", self.base / f"{method}-stopped"
        moe("train", self.run_file(method, straight.name))
        moe("train", self.run_file(method, stopped.name))
        # As if it had been killed after its checkpoint at step 15.
        shutil.rmtree(stopped / "step-30")
        resumed = moe("train", stopped.with_suffix(".toml"), "--resume")
        self.assertIn("step-15 at step 15", resumed.stderr)
        lines = log_without_times(straight / "log.jsonl")
        self.assertEqual(lines, log_without_times(stopped / "log.jsonl"))
        self.assertEqual(len(lines), 30)
        self.assertLess(lines[-1]["loss"], lines[0]["loss"] - 0.2)
        self.assertEqual("dropped" in lines[0], method in CAPACITIES)

        model = straight / "latest"
        own = json.loads((model / "config.json").read_text())["model_type"]
        plain = method in ("dense", "soft_mixture", "switch", "gshard", "mixtral", "deepseekmoe")
        self.assertEqual(own, "deepseek" if plain else "moe")
        analyse = [] if method == "dense" else ["--analyse"]
        said = moe("eval", "loss", model, *self.files, "--sequence-length", "32", "--json", straight / "eval.json",
                   *analyse)
        report = json.loads((straight / "eval.json").read_text())
        # The run's own evaluation after its last step is of the same text.
        last = [json.loads(line) for line in (straight / "eval.jsonl").read_text().splitlines()][-1]
        self.assertAlmostEqual(report["all"]["loss"], last["loss"], places=5)
        self.assertEqual("not the loss of a language model" in said.stderr, method == "expert_choice")
        self.assertEqual("dropped" in said.stdout, method in CAPACITIES)
        if method == "dense":
            refused = moe("eval", "loss", model, *self.files, "--analyse", check=False)
            self.assertEqual(refused.returncode, 1)
            self.assertIn("has no routed experts", refused.stderr)
        else:
            chosen = report["choices"]["layers"][0]["coactivation"]
            total = sum(chosen[e][e] for e in range(8))
            for e, load in enumerate(report["routing"]["layers"][0]["load"]):
                self.assertAlmostEqual(chosen[e][e] / total, load, places=12)
            if method.startswith("hash"):
                self.assertTrue(all(t["share"] == 1 for tokens in report["choices"]["layers"][0]["experts"] for t in tokens))
        moe("cost", model, "--json")
        written = moe("generate", model, "--prompt", "class", "--max-new-tokens", "4", "--temperature", "0", check=False)
        if method == "expert_choice":
            self.assertEqual(written.returncode, 1)
            self.assertIn("cannot generate token by token", written.stderr)
            self.assertNotIn("parameters", written.stderr, "refused before the weights are loaded")
        else:
            self.assertEqual(written.returncode, 0, written.stderr)
            self.assertEqual("generation drops no choice of an expert" in written.stderr, method in CAPACITIES)


    def test_stages_stay_where_they_began(self):
        run = self.run_file("stable_moe", "stages")
        begin = ["--set", "train.steps=20"]  # the second stage from step 2 on
        moe("train", run, *begin)
        longer = ["--resume", "--set", "train.steps=60", "--allow-change", "train.steps"]
        refused = moe("train", run, *longer, "--set", "train.second_stage=6", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("trained with train.second_stage = 2, but this run has train.second_stage = 6", refused.stderr)
        moe("train", run, *longer)
        self.assertIn("second_stage = 2\n", (self.base / "stages" / "run.toml").read_text())
        for line in log_without_times(self.base / "stages" / "log.jsonl"):
            self.assertEqual(line.get("distillation_loss", 0) > 0, line["step"] == 1, line["step"])

    def test_samples_without_generation_leave_no_folder(self):
        run = self.run_file("expert_choice", "no-samples")
        refused = moe("train", run, "--set", 'sample.prompts=["a"]', check=False)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("sample.prompts", refused.stderr)
        self.assertFalse((self.base / "no-samples").exists())


for _method in METHODS:
    setattr(MethodsTest, f"test_{_method}", lambda self, method=_method: self.check(method))


if __name__ == "__main__":
    unittest.main(verbosity=2)
