"""moe study as a user types it: killed and gone on with, resumed job by job, refused with other settings, shown, drawn.

Usage: study_test.py PATH_OF_MOE
"""

import csv
import json
import pathlib
import re
import shutil
import signal
import tempfile
import unittest
import xml.etree.ElementTree

from support import ROOT, make_dataset, moe, signalled

SYSTEMS = ["dense", "gshard", "fine"]
JOBS = [f"{system}-seed{seed}" for seed in (1, 2) for system in SYSTEMS]

STUDY_FILE = """
[study]
dir = "{folder}/study"
title = "Three <small> & 'quick'"
seeds = [1, 2]
systems = [
  "dense:  model.method=dense",
  "gshard: model.method=gshard",
  "fine:   model.moe_intermediate_size=8 model.n_shared_experts=1 model.n_routed_experts=15 model.num_experts_per_tok=3",
]
bars = ["sparse: gshard fine"]
mask_sixteenths = [0, 2]
switches = true
[data]
train = "{folder}/dataset"
valid = "{folder}/dataset"
sequence_length = 32
rows_per_step = 4
microbatch_rows = 2
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
every = 10
[checkpoint]
every = 10
"""


def without_times(path):
    """A result's bytes, without what no two runs share."""
    result = json.loads(path.read_text())
    for point in [result, *result["curve"]]:
        del point["seconds"]
    del result["tokens_per_second"]
    return json.dumps(result)


class StudyTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-study-test-"))
        texts = sorted((ROOT / "src").rglob("*.h"))[:8]
        scripts = sorted((ROOT / "tools").glob("*.py"))[:3]
        make_dataset(cls.base, {"headers": [path.read_text() for path in texts],
                                "scripts": [path.read_text()[:1000] for path in scripts]})
        (cls.base / "study.toml").write_text(STUDY_FILE.format(folder=cls.base))
        cls.straight = cls.base / "straight"
        cls.first = cls.study("run", cls.straight, "--plots", cls.base / "plots")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    @classmethod
    def arguments(cls, what, folder, *more):
        return ["study", what, cls.base / "study.toml", "--set", f"study.dir={folder}", *more]

    @classmethod
    def study(cls, what, folder, *more, check=True):
        return moe(*cls.arguments(what, folder, *more), check=check)

    def signalled(self, number, folder, job, line, *more, file="log.jsonl"):
        """A study that gets a signal behind that line of a job's file."""
        return signalled(number, self.arguments("run", folder, *more), folder / "runs" / job / file, line)

    def results(self, folder):
        return sorted(path.name for path in (folder / "results").iterdir())

    def assert_same_results(self, folder):
        for job in JOBS:
            documents = [place / "documents" / f"{job}.jsonl" for place in (folder, self.straight)]
            self.assertEqual(documents[0].read_bytes(), documents[1].read_bytes(), job)
        self.assertEqual(self.results(folder), sorted(f"{job}.json" for job in JOBS))
        for job in JOBS:
            self.assertEqual(without_times(folder / "results" / f"{job}.json"),
                             without_times(self.straight / "results" / f"{job}.json"), job)

    def trained(self, result):
        """The jobs that a call trained, in order."""
        return re.findall(r"^(\S+): loss \S+ after", result.stderr, re.MULTILINE)

    def test_every_job_is_trained_and_leaves_one_small_result(self):
        self.assertEqual(self.trained(self.first), JOBS)
        for number, job in enumerate(JOBS, 1):
            self.assertIn(f"{job} ({number} of 6)\n", self.first.stderr)
            path = self.straight / "results" / f"{job}.json"
            self.assertLess(path.stat().st_size, 20000)
            result = json.loads(path.read_text())
            self.assertEqual([point["step"] for point in result["curve"]], [10, 20, 30])
            self.assertEqual(result["loss"], result["curve"][-1]["loss"])
            self.assertGreater(result["curve"][0]["loss"], result["loss"])
            self.assertAlmostEqual(result["seconds"], result["curve"][-1]["seconds"])
        self.assertEqual(self.results(self.straight), sorted(f"{job}.json" for job in JOBS))

    def test_switches_are_those_that_a_system_has_experts_for(self):
        def measured(system):
            result = json.loads((self.straight / "results" / f"{system}-seed1.json").read_text())
            return {(point["kind"], point["value"]): point["loss"] for point in result["switches"]}, result["loss"]

        self.assertEqual(measured("dense")[0], {})
        for system, most in (("gshard", 2), ("fine", 3)):
            losses, loss = measured(system)
            kinds = [("mask_sixteenths", 0), ("mask_sixteenths", 2)]
            kinds += [("experts_per_token", k) for k in range(1, most + 1)]
            self.assertEqual(list(losses), kinds + ([("drop_shared", 1)] if system == "fine" else []))
            self.assertEqual(losses["mask_sixteenths", 0], loss)
            self.assertEqual(losses["experts_per_token", most], loss)
            # Whether it rises is chance in a model that has learned so little.
            self.assertNotEqual(losses["mask_sixteenths", 2], loss)

    def test_the_kept_results_on_a_gpu_give_the_table_of_the_documents(self):
        shown = moe("study", "show", ROOT / "configs/study/h200.toml", "--set", f"study.dir={ROOT}/docs/study/h200", "--set",
                    "study.seeds=[1,2,3]").stdout
        rows = [line for line in shown.splitlines() if line.startswith("| ")]
        self.assertEqual(len(rows), 1 + 23 + 1 + 7)
        page = (ROOT / "docs/study.md").read_text()
        for row in rows:
            self.assertIn(row, page)
        self.assertIn("Without a paired difference to dense, because of a result without losses of documents", shown)

    def test_the_kept_results_at_equal_time_are_those_of_the_documents(self):
        page = (ROOT / "docs/study.md").read_text()
        for seconds, steps in ((30, 5270), (60, 10545), (120, 21090)):
            results = json.loads(moe("study", "show", ROOT / "configs/study/crossing.toml", "--set", f"train.steps={steps}", "--set",
                                     f"study.dir={ROOT}/docs/study/crossing/{seconds}s", "--set", "study.seeds=[1,2,3]", "--json",
                                     "-").stdout)
            self.assertGreaterEqual(len(results), 8)
            for row in results:
                system = row["system"].rsplit("-lr", 1)[0]
                lines = [line for line in page.splitlines() if line.startswith(f"| {seconds} | {system} |")]
                self.assertEqual(len(lines), 1, row["system"])
                self.assertIn(f"{row['loss']:.4f}", lines[0])

    def test_the_lengths_of_a_study_give_the_lowest_losses_of_the_documents(self):
        page = (ROOT / "docs/study.md").read_text()
        crossing = ["study", "show", ROOT / "configs/study/crossing.toml", "--set", "study.seeds=[1,2,3]"]
        kept = [f"{steps}={ROOT}/docs/study/crossing/{seconds}s" for seconds, steps in ((30, 5270), (60, 10545), (120, 21090))]
        plots = self.base / "lengths"
        shown = moe(*crossing, *sum((["--lengths", one] for one in kept), []), "--plots", plots).stdout
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines() if line.startswith("| ")][1:]
        self.assertEqual(len(rows), 8)
        for seconds, system, _, loss, _ in rows:
            length = min((30, 60, 120), key=lambda one: abs(one - float(seconds)))
            line = next(line for line in page.splitlines() if line.startswith(f"| {length} | {system} |"))
            self.assertIn(loss, line.split("|")[-2])
        xml.etree.ElementTree.parse(plots / "lengths.svg")
        for bad in ("5270", "5270=", "=runs"):
            self.assertIn("expected STEPS=DIR", moe(*crossing, "--lengths", bad, check=False).stderr)
        self.assertIn("has no results yet", moe(*crossing, "--lengths", "5270=nowhere", check=False).stderr)
        self.assertIn("its own table", moe(*crossing, "--lengths", kept[0], "--csv", "-", check=False).stderr)

    def test_checkpoints_go_once_there_is_a_result(self):
        for job in JOBS:
            run = self.straight / "runs" / job
            left = sorted(path.name for path in run.iterdir() if not path.name.startswith("events."))
            self.assertEqual(left, ["eval.jsonl", "lock", "log.jsonl", "run.toml", "status.json"])
        # As if it had been killed between the two.
        left = self.straight / "runs" / JOBS[0] / "step-30"
        left.mkdir()
        (left / "trainer_state.json").write_text("{}")
        self.study("run", self.straight)
        self.assertFalse(left.exists())

    def test_checkpoints_that_were_removed_cannot_be_asked_for(self):
        self.assert_refused(self.study("run", self.straight, "--set", "study.keep_checkpoints=true", check=False), 1,
                            "the checkpoints of dense-seed1 were removed", "results/dense-seed1.json", "leave the key out")

    def test_losses_of_documents_are_those_of_the_last_evaluation(self):
        for job in JOBS:
            lines = [json.loads(line) for line in (self.straight / "documents" / f"{job}.jsonl").read_text().splitlines()]
            evaluation = json.loads((self.straight / "runs" / job / "eval.jsonl").read_text().splitlines()[-1])
            for domain, score in evaluation["domains"].items():
                own = [line for line in lines if line["domain"] == domain]
                self.assertEqual(sum(line["tokens"] for line in own), score["tokens"])
                self.assertAlmostEqual(sum(line["nats"] for line in own) / score["tokens"], score["loss"], places=9)

    def test_differences_are_paired_over_seeds_or_over_documents(self):
        def rows(*more):
            text = self.study("show", self.straight, *more).stdout.partition("Differences to ")[2]
            return [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| (dense|gshard|fine) ", line)]

        def loss(system, seed):
            return json.loads((self.straight / "results" / f"{system}-seed{seed}.json").read_text())["loss"]

        both = rows("--set", "study.baseline=gshard")
        self.assertEqual([row[:2] for row in both], [["dense", "2 seeds"], ["fine", "2 seeds"]])
        pairs = [loss("fine", seed) - loss("gshard", seed) for seed in (1, 2)]
        self.assertEqual(both[1][2], f"{sum(pairs) / 2:+.4f} ± {12.706 * abs(pairs[0] - pairs[1]) / 2:.4f}")
        self.assertEqual(len(both[1]), 6, "two domains")
        one = rows("--set", "study.seeds=[1]", "--set", "study.baseline=gshard")
        self.assertEqual([row[:2] for row in one], [["dense", "11 documents"], ["fine", "11 documents"]])
        found = json.loads(moe("compare", *(self.straight / "documents" / f"{system}-seed1.jsonl" for system in
                                            ("gshard", "fine")), "--json", "-").stdout)
        for part, shown in ((found["all"], one[1][3]), (found["domains"]["scripts"], one[1][5])):
            self.assertEqual(shown, f"{part['difference']:+.4f} ± {part['error']:.4f}")

    def test_rows_are_read_by_other_programs(self):
        file = self.base / "rows.csv"
        shown = self.study("show", self.straight, "--csv", file, "--json", "-")
        rows = json.loads(shown.stdout)
        with open(file, newline="") as text:
            table = list(csv.DictReader(text))
        self.assertEqual([(row["system"], row["seed"], row["domain"]) for row in rows],
                         [(system, seed, domain) for seed in (1, 2) for system in SYSTEMS
                          for domain in ("headers", "scripts", "all")])
        for row, line in zip(rows, table):
            self.assertEqual(list(row), list(line))
            for key, value in row.items():
                if value is None or isinstance(value, str):
                    self.assertEqual(line[key], value or "", key)
                else:
                    self.assertEqual(json.loads(line[key]), value, key)
        result = json.loads((self.straight / "results" / "fine-seed2.json").read_text())
        last = rows[-1]
        self.assertEqual((last["loss"], last["bits_per_byte"]), (result["loss"], result["bits_per_byte"]))
        self.assertEqual((last["parameters"], last["model.n_routed_experts"]), (result["total_params"], 15))
        self.assertIsNone(rows[0]["difference"])
        self.assertAlmostEqual(last["difference"], last["bits_per_byte"] - rows[11]["bits_per_byte"], places=12)
        self.assertEqual(self.study("show", self.straight, "--csv", "-").stdout, file.read_text())
        self.assert_refused(self.study("show", self.straight, "--csv", "-", "--json", "-", check=False), 2, "one of them")

    def test_checkpoints_may_be_kept(self):
        folder = self.base / "kept"
        self.study("run", folder, "--only", "gshard", "--set", "study.keep_checkpoints=true", "--set", "study.seeds=[1]")
        moe("eval", "loss", folder / "runs" / "gshard-seed1" / "latest", self.base / "headers.jsonl")

    def test_a_study_killed_twice_equals_the_straight_one(self):
        folder = self.base / "killed"
        for job, step in (("gshard-seed1", 3), ("dense-seed2", 13)):  # before and behind a checkpoint
            killed = self.signalled(signal.SIGKILL, folder, job, step)
            self.assertEqual(killed.returncode, -signal.SIGKILL, killed.stderr)
            self.assertEqual(self.results(folder), sorted(f"{done}.json" for done in JOBS[:JOBS.index(job)]))
        dates = {job: (folder / "results" / f"{job}.json").stat().st_mtime_ns for job in JOBS[:3]}
        said = self.study("run", folder)
        self.assertEqual(self.trained(said), JOBS[3:])
        self.assertIn("resuming from", said.stderr)
        for number, job in enumerate(JOBS[:3], 1):
            self.assertIn(f"{job} ({number} of 6) is done", said.stderr)
            self.assertEqual((folder / "results" / f"{job}.json").stat().st_mtime_ns, dates[job])
        self.assert_same_results(folder)

    def test_signals_save_a_checkpoint_set_the_status_and_leave_a_study_to_go_on_with(self):
        folder = self.base / "signals"
        for number, status, job in ((signal.SIGTERM, 143, "dense-seed1"), (signal.SIGINT, 130, "fine-seed1")):
            stopped = self.signalled(number, folder, job, 7)
            self.assertEqual(stopped.returncode, status, stopped.stderr)
            self.assertIn("the same command continues", stopped.stderr)
            self.assertFalse((folder / "results" / f"{job}.json").exists())
        self.study("run", folder)
        self.assert_same_results(folder)

    def test_a_signal_behind_the_last_step_starts_no_further_job(self):
        folder, more = self.base / "late", ["--set", "eval.every=0"]
        stopped = self.signalled(signal.SIGTERM, folder, "dense-seed1", 1, *more, file="eval.jsonl")
        self.assertEqual(stopped.returncode, 143, stopped.stderr)
        self.assertFalse((folder / "runs" / "gshard-seed1").exists())
        said = self.study("run", folder, *more, "--only", "dense", "--set", "study.seeds=[1]")
        self.assertEqual(self.trained(said), ["dense-seed1"])
        self.assertIn("step-30 at step 30", said.stderr)

    def test_a_signal_among_the_switches_leaves_the_trained_model(self):
        folder, more = self.base / "switched", ["--only", "fine", "--set", "study.seeds=[1]"]
        stopped = signalled(signal.SIGTERM, self.arguments("run", folder, *more), said="mask_sixteenths = 2")
        self.assertEqual(stopped.returncode, 143, stopped.stderr)
        self.assertNotIn("experts_per_token", stopped.stderr)
        self.assertFalse((folder / "results").exists())
        self.assertIn("step-30 at step 30", self.study("run", folder, *more).stderr)

    def test_only_trains_and_shows_those_systems(self):
        folder = self.base / "only"
        said = self.study("run", folder, "--only", "fine", "dense", "--set", "study.seeds=[2]")
        self.assertEqual(self.trained(said), ["dense-seed2", "fine-seed2"])
        self.assertIn("| fine | 1 |", said.stdout)
        self.assertNotIn("gshard", said.stdout)
        said = self.study("show", self.straight, "--only", "gshard")
        self.assertIn("| gshard | 2 |", said.stdout)
        self.assertNotIn("dense", said.stdout)

    def test_max_seconds_leaves_the_rest_for_another_call(self):
        folder = self.base / "pieces"
        for number in range(6):
            said = self.study("run", folder, "--max-seconds", "0.01")
            self.assertEqual(self.trained(said), [JOBS[number]])
            self.assertEqual("start them with another call" in said.stderr, number < 5)
        self.assert_same_results(folder)

    def test_show_prints_the_table_that_run_printed(self):
        shown = self.study("show", self.straight)
        self.assertEqual(shown.stdout, self.first.stdout)
        self.assertEqual(shown.stderr, "")
        table = shown.stdout.partition("Differences to ")[0]
        rows = [line for line in table.splitlines() if re.match(r"\| (dense|gshard|fine) ", line)]
        self.assertEqual([row.split(" | ")[:2] for row in rows], [[f"| {system}", "2"] for system in SYSTEMS])
        self.assertIn("Three <small> & 'quick': validation loss", shown.stdout)
        for what in ("FLOPs", "time", "memory"):
            self.assertIn(f"\nAt equal {what}", shown.stdout)

    def test_show_of_a_part_says_so(self):
        folder = self.base / "part"
        self.study("run", folder, "--only", "dense", "--set", "study.seeds=[1]")
        said = self.study("show", folder)
        self.assertIn("1 of 6 jobs have a result", said.stderr)
        self.assertIn("| dense | 1 |", said.stdout)

    def test_plots_are_xml_and_name_each_system(self):
        def texts(folder, name):
            root = xml.etree.ElementTree.parse(folder / name).getroot()
            self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
            return [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]

        self.study("show", self.straight, "--plots", self.base / "shown")
        for folder in (self.base / "plots", self.base / "shown"):
            names = {"systems.svg": SYSTEMS, "differences.svg": SYSTEMS[1:], "curves.svg": SYSTEMS, "sparse.svg": SYSTEMS[1:], "figure4.svg": SYSTEMS[1:],
                     "figure5.svg": SYSTEMS[1:]}
            pages = [name.replace(".svg", ".pdf") for name in names]
            self.assertEqual(sorted(path.name for path in folder.iterdir()), sorted([*names, *pages]))
            for name in pages:
                self.assertEqual((folder / name).read_bytes()[:5], b"%PDF-")
            for name, systems in names.items():
                for system in SYSTEMS:
                    self.assertEqual(system in texts(folder, name), system in systems, f"{system} in {name}")
        self.assertIn("Three <small> & 'quick'", texts(self.base / "plots", "systems.svg"))

    def assert_refused(self, result, status, *parts):
        self.assertEqual(result.returncode, status, result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)
        self.assertEqual(result.stderr.count("error:"), 1)

    def test_results_and_runs_of_other_settings_are_refused(self):
        folder = self.base / "other"
        self.study("run", folder, "--only", "dense", "--set", "study.seeds=[1]")
        for what in ("run", "show"):
            refused = self.study(what, folder, "--set", "train.steps=31", check=False)
            self.assert_refused(refused, 1, "dense-seed1.json was made from other settings", "--set study.dir=")
        (folder / "results" / "dense-seed1.json").unlink()
        self.assert_refused(self.study("run", folder, "--set", "optimizer.clip=2", check=False), 1,
                            "runs/dense-seed1 was made from other settings")
        moved = self.base / "moved"
        shutil.copytree(self.straight, moved)
        self.assertEqual(self.trained(self.study("run", moved)), [])

    def test_damaged_results_say_what_to_do(self):
        folder = self.base / "damaged"
        shutil.copytree(self.straight, folder)
        result = folder / "results" / "gshard-seed2.json"
        whole = result.read_text()
        for content in ("", whole[: len(whole) // 2], "{}", "[1]", whole.replace('"loss":', '"lost":', 1)):
            result.write_text(content)
            for what in ("run", "show"):
                self.assert_refused(self.study(what, folder, check=False), 1, "gshard-seed2.json",
                                    "remove the file to train gshard-seed2 again")
        result.unlink()
        self.assertEqual(len(self.trained(self.study("run", folder))), 1)

    def test_datasets_are_read_before_the_first_job(self):
        folder, changed = self.base / "tokens", self.base / "changed-tokens"
        shutil.copytree(self.base / "dataset", changed)
        shard = next(changed.glob("*.bin"))
        content = bytearray(shard.read_bytes())
        content[100] ^= 1
        shard.write_bytes(content)
        for key in ("data.train", "data.valid"):
            self.assert_refused(self.study("run", folder, "--set", f"{key}={changed}", check=False), 1, str(changed),
                                "its tokens are not those")
            self.assertFalse((folder / "runs").exists())

    def test_every_system_is_checked_before_the_first_job(self):
        folder, source, run_file = self.base / "checked", self.base / "a-model", self.base / "run.toml"
        run_file.write_text("[data]" + STUDY_FILE.format(folder=self.base).split("[data]")[1])
        moe("train", run_file, "--device", "cpu", "--set", f"run.dir={source}", "--set", "train.steps=1", "--set",
            "model.num_experts_per_tok=2")
        for keys, words in (
            (f"train.objective=dpo model.from={source} model.num_experts_per_tok=2", "has no preferences"),
            (f"train.parameters=lora model.from={source} model.num_experts_per_tok=2 data.train={self.base / 'nowhere'}", "nowhere"),
            ("model.method=dense model.intermediate_size=1048576 model.num_hidden_layers=1000", "training needs"),
        ):
            refused = self.study("run", folder, "--set", f'study.systems=["good: model.method=dense", "odd: {keys}"]',
                                 "--set", "study.bars=[]", check=False)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("system odd: ", refused.stderr)
            self.assertIn(words, refused.stderr)
            self.assertFalse((folder / "runs").exists())

    def test_users_mistakes_get_one_sentence(self):
        new = self.base / "never"
        self.assert_refused(self.study("show", new, check=False), 1, "has no results yet; run the study first")
        self.assert_refused(self.study("show", new, "--set", "study.budget=seconds", check=False), 1, "rates.json",
                            "run the study with this budget first")
        self.assert_refused(self.study("show", new, "--plots", "", check=False), 2, "--plots: the value is empty")
        self.assert_refused(self.study("show", "", check=False), 2, "study.dir", "expected the name of a folder")
        self.assert_refused(self.study("run", new, "--only", "gshrad", check=False), 2, "no such system",
                            "dense, gshard, fine")
        self.assert_refused(self.study("run", new, "--set", "study.seedz=[1]", check=False), 2, "did you mean study.seeds?")
        self.assert_refused(self.study("run", new, "--set", "data.valid=", check=False), 2, "data.train and data.valid")
        self.assert_refused(self.study("run", new, "--set", "data.train=nowhere", "--set", "model.vocab_size=400",
                                       check=False), 1, "nowhere")
        self.assert_refused(moe("study", "run", "nowhere.toml", check=False), 1, "nowhere.toml")
        self.assert_refused(moe("train", self.base / "study.toml", check=False), 2, "is a study", "moe study run")
        self.assertEqual(self.study("run", new, "--max-seconds", "-1", check=False).returncode, 2)
        self.assertFalse((new / "results").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
