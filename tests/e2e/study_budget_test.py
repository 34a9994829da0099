"""What ends the systems of a study: budgets of FLOPs and of seconds, and divergence.

Usage: study_budget_test.py PATH_OF_MOE
"""

import fcntl
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from support import MOE, ROOT, make_dataset, moe

SYSTEMS = ["dense", "gshard", "fine"]

STUDY_FILE = """
[study]
dir = "{folder}/study"
seeds = [1]
systems = [
  "dense:  model.method=dense",
  "gshard: model.method=gshard",
  "fine:   model.moe_intermediate_size=8 model.n_shared_experts=1 model.n_routed_experts=15 model.num_experts_per_tok=3",
]
[data]
train = "{folder}/dataset"
valid = "{folder}/dataset"
sequence_length = 32
rows_per_step = 4
[model]
hidden_size = 24
num_hidden_layers = 2
num_attention_heads = 2
n_routed_experts = 8
moe_intermediate_size = 16
intermediate_size = 32
max_position_embeddings = 64
[train]
steps = 30
[optimizer]
learning_rate = 3e-3
[eval]
every = 20
every_nth = 3
"""


class StudyBudgetTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-study-budget-test-"))
        texts = sorted((ROOT / "src").rglob("*.h"))[:6]
        make_dataset(cls.base, {"headers": [path.read_text() for path in texts]})
        (cls.base / "study.toml").write_text(STUDY_FILE.format(folder=cls.base))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def study(self, what, folder, *more, check=True):
        return moe("study", what, self.base / "study.toml", "--set", f"study.dir={folder}", *more, check=check)

    def trained(self, result):
        """The jobs that a call trained, in order."""
        return re.findall(r"^(\S+): loss \S+ after", result.stderr, re.MULTILINE)

    def steps_and_results(self, folder):
        found = {path.stem: json.loads(path.read_text()) for path in (folder / "results").iterdir()}
        return {name: result["steps"] for name, result in found.items()}, found

    def start(self, folder, *more):
        return subprocess.Popen([MOE, "study", "run", self.base / "study.toml", "--set", f"study.dir={folder}", "--threads", "1",
                                 *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_two_processes_share_the_jobs(self):
        alone, shared = self.base / "alone", self.base / "shared"
        settings = ["--set", "study.seeds=[1,2]"]
        self.study("run", alone, *settings)
        outputs = [process.communicate() + (process.returncode,) for process in
                   [self.start(shared, *settings) for _ in range(2)]]
        self.assertEqual([output[2] for output in outputs], [0, 0], outputs)
        trained = [re.findall(r"^(\S+): loss \S+ after", errors, re.MULTILINE) for _, errors, _ in outputs]
        self.assertEqual(sorted(trained[0] + trained[1]), sorted(f"{system}-seed{seed}" for system in SYSTEMS for seed in (1, 2)))
        table = [line for line in self.study("show", alone, *settings).stdout.splitlines() if line.startswith("| ")]
        again = [line for line in self.study("show", shared, *settings).stdout.splitlines() if line.startswith("| ")]
        columns = [[line.split("|")[:5] for line in lines] for lines in (table, again)]
        self.assertEqual(*columns)

    def test_two_processes_train_by_the_same_rates(self):
        folder = self.base / "rates"
        settings = ["--set", "study.budget=seconds"]
        outputs = [process.communicate() + (process.returncode,) for process in
                   [self.start(folder, *settings) for _ in range(2)]]
        self.assertEqual([output[2] for output in outputs], [0, 0], outputs)
        measured = [re.findall(r"^(\S+): \S+ s a step", errors, re.MULTILINE) for _, errors, _ in outputs]
        self.assertEqual(sorted(measured, key=len), [[], SYSTEMS])
        shown = self.study("show", folder, *settings).stdout
        self.assertEqual(len(re.findall(r"^\| (?:dense|gshard|fine) \| 1 \|", shown, re.MULTILINE)), 3)

    def test_a_job_of_another_process_is_left_to_it(self):
        folder = self.base / "taken"
        (folder / "locks").mkdir(parents=True)
        with open(folder / "locks" / "gshard-seed1", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            said = self.study("run", folder)
        self.assertEqual(self.trained(said), ["dense-seed1", "fine-seed1"])
        self.assertIn("gshard-seed1 (2 of 3) is left to the process that is training it", said.stderr)
        self.assertEqual(self.trained(self.study("run", folder)), ["gshard-seed1"])

    def test_a_budget_of_flops_ends_every_schedule_at_the_same_cost(self):
        folder = self.base / "flops"
        settings = ["--set", "study.budget=flops", "--set", "study.reference=gshard"]
        said = self.study("run", folder, *settings)
        steps, results = self.steps_and_results(folder)
        self.assertEqual(steps["gshard-seed1"], 30)
        self.assertGreater(steps["dense-seed1"], 30)
        cost = 30 * results["gshard-seed1"]["flops_per_sequence_causal"]
        for name, result in results.items():
            self.assertLessEqual(abs(steps[name] * result["flops_per_sequence_causal"] - cost),
                                 result["flops_per_sequence_causal"] / 2, name)
            self.assertIn(f"\nwarmup_steps = {int(0.05 * steps[name] + 0.5)}\n", result["settings"])
            self.assertEqual(result["curve"][-1]["step"], steps[name])
        best = min(results.values(), key=lambda result: result["loss"])
        self.assertRegex(said.stdout, rf"At equal FLOPs \([0-9.]+ TFLOP, every schedule ended\): {best['system']} {best['loss']:.4f}")
        self.assertEqual(self.study("show", folder, *settings).stdout, said.stdout)
        refused = self.study("run", folder, *settings, "--set",
                             'study.systems=["a: model.method=dense", "b: train.steps=3"]', "--set",
                             "study.reference=a", check=False)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("system b of", refused.stderr)
        self.assertIn("study.budget = flops sets that by the steps of a", refused.stderr)

    def test_a_budget_of_seconds_goes_by_rates_that_are_measured_once(self):
        folder = self.base / "seconds"
        settings = ["--set", "study.budget=seconds"]
        said = self.study("run", folder, *settings)
        rates = json.loads((folder / "rates.json").read_text())
        self.assertEqual(sorted(rates), sorted(SYSTEMS))
        steps, _ = self.steps_and_results(folder)
        for system in SYSTEMS:
            self.assertEqual(steps[f"{system}-seed1"], max(1, round(30 * rates["dense"] / rates[system])))
        self.assertIn("every schedule ended", said.stdout)
        again = self.study("run", folder, *settings)
        self.assertEqual(self.trained(again), [])
        self.assertNotIn("s a step", again.stderr)
        self.assertEqual(again.stdout, said.stdout)

    def test_a_dry_run_is_a_table_and_trains_nothing(self):
        folder = self.base / "dry"
        shown = self.study("run", folder, "--dry-run", "--set", 'study.where_possible=["balance.alpha_expert=0.02"]')
        rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in shown.stdout.splitlines()
                if line.startswith("| ")}
        self.assertEqual(sorted(rows), sorted([*SYSTEMS, "system"]))
        self.assertFalse(folder.exists())
        self.assertIn("dense does not take balance.alpha_expert=0.02", shown.stdout)
        self.assertNotIn("gshard does not take", shown.stdout)
        self.assertRegex(rows["gshard"][1], r"^0\.0\dM \(\+\d+\.\d%\) \*$")
        self.assertNotIn("*", "".join(rows["dense"]))

    def test_a_grid_is_trained_and_named_by_its_values(self):
        folder = self.base / "grid"
        said = self.study("run", folder, "--set", "study.systems=[]", "--set", "train.steps=4", "--set",
                          'study.grid=["m: model.granularity=1,2", "lr: optimizer.learning_rate=1e-3,2e-3"]', "--set",
                          "model.full_width=16", "--set", "model.full_experts=4", "--set", "model.full_experts_per_tok=2",
                          check=False)
        self.assertEqual(said.returncode, 2)
        self.assertIn("model.n_routed_experts is 8, expected to be left out, because model.full_experts sets it", said.stderr)
        text = (self.base / "study.toml").read_text()
        for line in ("n_routed_experts = 8\n", "moe_intermediate_size = 16\n"):
            text = text.replace(line, "")
        (self.base / "grid.toml").write_text(text)
        said = moe("study", "run", self.base / "grid.toml", "--set", f"study.dir={folder}", "--set", "study.systems=[]",
                   "--set", "train.steps=4", "--set",
                   'study.grid=["m: model.granularity=1,2", "lr: optimizer.learning_rate=1e-3,2e-3"]', "--set",
                   "model.full_width=16", "--set", "model.full_experts=4", "--set", "model.full_experts_per_tok=2")
        self.assertEqual(self.trained(said), [f"m{m}-lr{rate}-seed1" for m in (1, 2) for rate in ("1e-3", "2e-3")])
        for m in (1, 2):
            result = json.loads((folder / "results" / f"m{m}-lr1e-3-seed1.json").read_text())
            self.assertIn(f"\nn_routed_experts = {4 * m}\n", result["settings"])
            self.assertIn(f"\nmoe_intermediate_size = {16 // m}\n", result["settings"])

    def test_find_rate_recommends_and_stops(self):
        run_file = self.base / "rate.toml"
        text = STUDY_FILE.format(folder=self.base)
        run_file.write_text(f'[run]\ndir = "{self.base}/rated"\n' + text[text.index("[data]"):])
        arguments = ["train", run_file, "--find-rate", "--set", "model.num_experts_per_tok=2"]
        found = moe(*arguments)
        rates = [float(line.split()[1]) for line in found.stdout.splitlines() if re.match(r"\| [0-9]", line)]
        self.assertEqual(rates[:3], [0.000375, 0.00075, 0.0015])
        self.assertTrue(all(b == 2 * a for a, b in zip(rates, rates[1:])))
        losses = [float(line.split(" | ")[1]) for line in found.stdout.splitlines() if re.match(r"\| [0-9]", line)]
        best = rates[losses.index(min(losses))]
        self.assertIn(f"Best of these: optimizer.learning_rate = {best:g}", found.stdout)
        self.assertIn("0.003 (the run's)", found.stdout)
        self.assertEqual(moe(*arguments).stdout, found.stdout)
        self.assertFalse((self.base / "rated").exists())
        self.assertFalse(list((self.base / "rated.find-rate").rglob("step-*")))
        # The table's loss is that of a run of its own with this rate.
        own = self.base / "own"
        moe("train", run_file, "--set", "model.num_experts_per_tok=2", "--set", f"run.dir={own}", "--set",
            f"optimizer.learning_rate={best}")
        self.assertEqual(f"{json.loads((own / 'eval.jsonl').read_text().splitlines()[-1])['loss']:.4f}", f"{min(losses):.4f}")
        self.assertFalse((self.base / "own.find-rate").exists(), "without --find-rate")
        for wrong, part in ((["--resume"], "neither --resume"), (["--set", "data.valid="], "needs data.train and data.valid")):
            refused = moe(*arguments, *wrong, check=False)
            self.assertEqual(refused.returncode, 2)
            self.assertIn(part, refused.stderr)

    def test_a_study_of_preferences_goes_by_seconds(self):
        pairs = [{"prompt": f"question {i}", "chosen": f"the answer {i % 5} is right", "rejected": f"nothing {i}"}
                 for i in range(40)]
        (self.base / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        base = self.base / "base"
        run_file = self.base / "base.toml"
        text = STUDY_FILE.format(folder=self.base)
        run_file.write_text(f'[run]\ndir = "{base}"\n' + text[text.index("[data]"):])
        moe("train", run_file, "--set", "train.steps=2", "--set", "model.max_position_embeddings=256", "--set",
            "model.num_experts_per_tok=2")
        data = self.base / "pairs"
        moe("data", "--preferences", "--tokenizer", base, "--max-tokens", 200, "--valid-fraction", 0.2, "--out", data,
            self.base / "pairs.jsonl")
        study = self.base / "dpo.toml"
        study.write_text(f"""
[study]
dir = "{self.base}/dpo"
budget = "seconds"
seeds = [1]
systems = ["all: train.parameters=all", "lora: train.parameters=lora", "soft: dpo.beta=0.05"]
[data]
train = "{data}/train"
valid = "{data}/valid"
sequence_length = 256
rows_per_step = 4
[model]
from = "{base}"
[train]
objective = "dpo"
steps = 6
[optimizer]
learning_rate = 1e-3
""")
        said = moe("study", "run", study)
        rates = json.loads((self.base / "dpo/rates.json").read_text())
        self.assertEqual(sorted(rates), ["all", "lora", "soft"])
        self.assertEqual(self.trained(said), ["all-seed1", "lora-seed1", "soft-seed1"])
        steps, _ = self.steps_and_results(self.base / "dpo")
        for system in rates:
            self.assertEqual(steps[f"{system}-seed1"], max(1, round(6 * rates["all"] / rates[system])))

    def test_a_system_that_diverges_ends_alone(self):
        folder = self.base / "diverged"
        systems = ('study.systems=["calm: model.method=gshard", '
                   '"wild: model.method=gshard optimizer.weight_decay=1000000 optimizer.learning_rate=1", '
                   '"last: model.method=dense"]')
        settings = ["--set", systems]
        said = self.study("run", folder, *settings, "--plots", folder / "plots")
        self.assertRegex(said.stderr, r"wild-seed1: diverged at step \d+; the study continues with the next job")
        self.assertEqual(self.trained(said), ["calm-seed1", "last-seed1"])
        self.assertRegex(said.stdout, r"\| wild \| seed 1 \| diverged at step \d+ \|")
        self.assertNotRegex(said.stdout, r"At equal .*wild")
        self.assertEqual(self.study("show", folder, *settings).stdout, said.stdout)
        again = self.study("run", folder, *settings)
        self.assertEqual(self.trained(again), [])
        self.assertEqual(again.stdout, said.stdout)


if __name__ == "__main__":
    unittest.main()
