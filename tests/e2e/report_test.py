"""moe report as a user types it: what a page has, of runs and of studies, and what is refused.

Usage: report_test.py PATH_OF_MOE
"""

import json
import pathlib
import re
import shutil
import tempfile
import unittest

from commands import SmallRun
from support import MOE, moe

SHOWN = "</script><b>bold & <!-- "


def data_of(page):
    """What the page's script finds: the content of the element #data, as a browser delimits it."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


@unittest.skipIf(b"Chart.js v" not in MOE.read_bytes(), "built without Chart.js: apt-get install libjs-chart.js, then make build")
class ReportTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-report-test-"))
        cls.small = SmallRun(cls.base)
        cls.run_folder = cls.base / "shown"
        moe("train", cls.small.run_file, "--set", f"run.dir={cls.run_folder}", "--set", "train.steps=6", "--set", "log.counts_every=2",
            "--set", f"sample.prompts=[{json.dumps(SHOWN)}]", "--set", "eval.every=3")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def page(self, *arguments):
        out = self.small.new(".html")
        said = moe("report", *arguments, "--out", out)
        self.assertEqual(said.stdout, "")
        self.assertIn(f"{out} shows", said.stderr)
        return out.read_text()

    def refused(self, *arguments, status=1):
        out = self.small.new(".html")
        result = moe("report", *arguments, "--out", out, check=False)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertFalse(out.exists())
        return result.stderr

    def test_a_page_has_what_the_run_has_written(self):
        page = self.page(self.run_folder)
        (run,) = data_of(page)["runs"]
        log = [line for line in map(json.loads, (self.run_folder / "log.jsonl").read_text().splitlines()) if "run" not in line]
        self.assertEqual(run["name"], "shown")
        self.assertEqual(run["curves"]["loss"], [line["loss"] for line in log])
        self.assertEqual(run["curves"]["step"], [1, 2, 3, 4, 5, 6])
        evaluations = [json.loads(line) for line in (self.run_folder / "eval.jsonl").read_text().splitlines()]
        self.assertEqual([(one["step"], one["loss"]) for one in run["evaluations"]], [(one["step"], one["loss"]) for one in evaluations])
        self.assertEqual(run["evaluations"][0]["tokens"], sum(line["tokens"] for line in log[:3]))
        self.assertEqual(run["loads"]["steps"], [2, 4, 6])
        for layer, logged in zip(run["loads"]["layers"], log[1]["layers"], strict=True):
            mean = sum(logged["counts"]) / len(logged["counts"])
            for load, count in zip(layer["loads"][0], logged["counts"], strict=True):
                self.assertAlmostEqual(load, count / mean, delta=6e-4)
        self.assertEqual(run["run_file"], (self.run_folder / "run.toml").read_text())
        self.assertEqual(run["status"]["state"], "done")
        plan = run["about"]["plan"]
        self.assertGreater(plan["memory_bytes"], 0)
        self.assertGreater(plan["step_seconds"], 0)
        self.assertEqual(run["curves"]["flops"][-1], 6 * plan["step_flops"])

    def test_text_of_a_run_stays_text(self):
        page = self.page(self.run_folder)
        (run,) = data_of(page)["runs"]
        self.assertEqual(run["samples"][-1]["samples"][0]["prompt"], SHOWN)
        self.assertNotIn("</script><b>", page)
        self.assertNotIn("<b>bold", page)

    def test_a_page_needs_no_other_file(self):
        page = self.page(self.run_folder)
        self.assertNotRegex(page, r"""(src|href)\s*=\s*["'](?!data:,)""")
        self.assertNotRegex(page, r"@import|url\(|XMLHttpRequest|fetch\(|import\(")

    def test_the_evaluation_beside_the_run_and_another_one(self):
        evaluation = self.base / "elsewhere.json"
        moe("eval", "loss", self.run_folder, self.small.text, "--analyse", "--json", evaluation)
        (run,) = data_of(self.page(self.run_folder, "--eval", evaluation))["runs"]
        whole = json.loads(evaluation.read_text())
        self.assertEqual(run["evaluation"]["routing"], whole["routing"])
        self.assertEqual(run["evaluation"]["choices"], whole["choices"])
        folder = self.base / "evaluated"
        shutil.copytree(self.run_folder, folder, symlinks=True)
        self.assertIsNone(data_of(self.page(folder))["runs"][0]["evaluation"])
        shutil.copy(evaluation, folder / "eval.json")
        self.assertEqual(data_of(self.page(folder))["runs"][0]["evaluation"]["all"], whole["all"])
        self.assertIn("it is of one run, and there are 2", self.refused(self.run_folder, folder, "--eval", evaluation, status=2))

    def test_several_runs_and_studies(self):
        study = [run["name"] for run in data_of(self.page(self.small.study_file))["runs"]]
        self.assertEqual(study, ["one-seed1"])
        names = [run["name"] for run in data_of(self.page(self.run_folder, self.base / "study", self.small.run))["runs"]]
        self.assertEqual(names, ["shown", "one-seed1", "run"])

    def test_what_is_refused(self):
        self.assertIn("does not exist", self.refused(self.base / "missing"))
        self.assertIn("is not the folder of a run, which has a log.jsonl", self.refused(self.base / "dataset"))
        damaged = self.base / "damaged"
        shutil.copytree(self.run_folder, damaged, symlinks=True)
        with (damaged / "log.jsonl").open("a") as log:
            log.write("{\n")
        self.assertIn("log.jsonl, line 8", self.refused(damaged))
        self.assertIn("missing.json", self.refused(self.run_folder, "--eval", self.base / "missing.json"))
        self.assertIn("--out is required", self.refused_without_out())

    def refused_without_out(self):
        result = moe("report", self.run_folder, check=False)
        self.assertEqual(result.returncode, 2)
        return result.stderr


if __name__ == "__main__":
    unittest.main()
