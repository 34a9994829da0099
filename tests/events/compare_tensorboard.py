#!/usr/bin/env python3
"""Event files that `moe train` writes, in TensorBoard's own reader: its numbers are those of the logs.

  compare_tensorboard.py --moe build/moe [--venv build/venv]

Needs the package tensorboard; without it the exit status is 77, a skip for CTest. MOE_TEST_PYTHON names a Python that has it.
"""

import argparse
import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE.parent / "e2e")]
from python_packages import use_python_with  # noqa: E402

OF_THIS_RUN = ["--set", "sample.prompts=[]", "--set", "eval.every=6", "--set", "log.counts_every=4"]


class Events(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="moe-events-test-"))
        make_dataset(cls.folder, {"text": [f"the old bridge {i} walks under a green river {i * i}" for i in range(60)]})
        (cls.folder / "run.toml").write_text(RUN_FILE.format(folder=cls.folder))
        cls.arguments = ["train", cls.folder / "run.toml", *OF_THIS_RUN]
        moe(*cls.arguments, "--set", "train.steps=6")
        moe(*cls.arguments, "--resume", "--set", "train.steps=12", "--allow-change", "train.steps")
        cls.log = [line for line in map(json.loads, (cls.folder / "run/log.jsonl").read_text().splitlines()) if "step" in line]
        cls.evaluations = [json.loads(line) for line in (cls.folder / "run/eval.jsonl").read_text().splitlines()]
        cls.read = EventAccumulator(str(cls.folder / "run"), size_guidance={"scalars": 0, "histograms": 0})
        cls.read.Reload()

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def test_scalars_are_those_of_the_log(self):
        for tag, key in (("loss/train", "loss"), ("gradient_norm", "gradient_norm"), ("learning_rate", "learning_rate"),
                         ("tokens_per_second", "tokens_per_second"), ("epoch", "epoch")):
            points = self.read.Scalars(tag)
            self.assertEqual([point.step for point in points], [line["step"] for line in self.log], tag)
            for point, line in zip(points, self.log):
                self.assertAlmostEqual(point.value / line[key], 1, delta=1e-6, msg=tag)
                self.assertEqual(point.wall_time, line["time"])

    def test_evaluations(self):
        for tag, key in (("loss/valid", "loss"), ("bits_per_byte/valid", "bits_per_byte")):
            values = {point.step: point.value for point in self.read.Scalars(tag)}
            self.assertEqual(sorted(values), [6, 12])
            for line in self.evaluations:
                self.assertAlmostEqual(values[line["step"]] / line[key], 1, delta=1e-6)

    def test_histograms_are_the_load_of_experts(self):
        layers = [layer for line in self.log if line["step"] == 8 for layer in line["layers"]]
        for layer in layers:
            points = self.read.Histograms(f"load/layer_{layer['layer']:02d}")
            self.assertEqual([point.step for point in points], [4, 6, 8, 12])  # 6 was the last step of the first run
            value = points[2].histogram_value
            self.assertEqual(value.num, 4)
            self.assertAlmostEqual(value.max, layer["max_over_mean_load"], delta=1e-12)
            self.assertAlmostEqual(value.sum, 4, delta=1e-12)
            self.assertEqual(sum(value.bucket), 4)
            self.assertEqual(value.bucket_limit[-1], value.max)

    def test_a_run_that_went_on_from_an_older_checkpoint_replaces_what_came_after_it(self):
        run = self.folder / "again"
        arguments = [*self.arguments, "--set", "train.steps=12", "--set", f"run.dir={run}", "--set", "checkpoint.every=4"]
        moe(*arguments)
        shutil.rmtree(run / "step-12")
        moe(*arguments, "--resume")
        read = EventAccumulator(str(run), size_guidance={"scalars": 0})
        read.Reload()
        self.assertEqual([point.step for point in read.Scalars("loss/train")], list(range(1, 13)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moe", type=Path, required=True)
    parser.add_argument("--venv")
    options, rest = parser.parse_known_args()
    use_python_with(["tensorboard"], options.venv, "make venv")
    sys.argv[1:] = [str(options.moe)]  # as the end-to-end tests are started
    from commands import RUN_FILE
    from support import make_dataset, moe
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
