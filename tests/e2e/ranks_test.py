"""Training on several ranks, which are processes.

Usage: ranks_test.py PATH_OF_MOE

With MOE_TEST_DEVICE=cuda in the environment every rank has a GPU; tests that need more of them than there are here are skipped,
and without two it ends with status 77 (skipped).
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from support import MOE, ROOT, children_of, free_port, gpus, log_without_times, make_dataset, moe, with_library, write_small_run

STEPS = 12
DEVICE = os.environ.get("MOE_TEST_DEVICE", "cpu")
SKIPPED = 77
LOST = 75  # the exit status of a rank that ends because another one has ended


def tensors_of(checkpoint, pattern="optimizer-*.safetensors"):
    """The names of the tensors in all files of the optimiser's state, or in others."""
    names = []
    for path in sorted(checkpoint.glob(pattern)):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        names += [name for name in header if name != "__metadata__"]
    return names


class RanksTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-ranks-test-"))
        texts = [path.read_text() for path in sorted((ROOT / "src").rglob("*.h"))[:12]]
        make_dataset(cls.base, {"headers": texts})
        cls.run_file = cls.base / "run.toml"
        write_small_run(cls.run_file, cls.base, steps=STEPS, evaluate=4, save=4)
        cls.one, cls.two = cls.base / "one", cls.base / "two"
        cls.train(cls.one)
        cls.said = cls.train(cls.two, "--ranks", 2).stderr

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    @classmethod
    def arguments(cls, folder, *more):
        ranks = more[more.index("--ranks") + 1] if "--ranks" in more else 1
        if DEVICE == "cuda" and ranks > gpus():
            raise unittest.SkipTest(f"{ranks} GPUs are needed, {gpus()} are here")
        return ["train", cls.run_file, "--device", DEVICE, "--threads", 1, "--set", f"run.dir={folder}", "--set", "data.rows_per_step=8", *more]

    @classmethod
    def train(cls, folder, *more, check=True):
        return moe(*cls.arguments(folder, *more), check=check)

    def start(self, folder, *more, environment=None):
        return subprocess.Popen([MOE, *map(str, self.arguments(folder, *more))], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment)

    def wait_for_step(self, folder, step):
        end = time.monotonic() + 120
        while time.monotonic() < end:
            log = folder / "log.jsonl"
            if log.exists() and any(json.loads(line).get("step", 0) >= step for line in log.read_text().splitlines(True)
                                    if line.endswith("\n")):
                return
            time.sleep(0.05)
        self.fail(f"{folder} did not reach step {step}")

    def assert_near(self, one, other):
        """The logs of two runs that differ in the order of sums: routing may change for a few tokens."""
        first, second = log_without_times(one / "log.jsonl"), log_without_times(other / "log.jsonl")
        self.assertEqual([line["step"] for line in first], [line["step"] for line in second])
        for a, b in zip(first, second):
            self.assertEqual(a.keys(), b.keys())
            self.assertAlmostEqual(a["loss"], b["loss"], delta=2e-4 * a["loss"])
            self.assertAlmostEqual(a["gradient_norm"], b["gradient_norm"], delta=5e-3 * a["gradient_norm"])
            self.assertEqual(a["learning_rate"], b["learning_rate"])
        evaluations = log_without_times(one / "eval.jsonl"), log_without_times(other / "eval.jsonl")
        self.assertEqual(len(evaluations[0]), len(evaluations[1]))
        for a, b in zip(*evaluations):
            self.assertAlmostEqual(a["loss"], b["loss"], delta=2e-4 * a["loss"])

    def test_two_ranks_train_what_one_trains(self):
        self.assert_near(self.one, self.two)
        self.assertIn("on each of 2 ranks", self.said)
        self.assertEqual(self.said.count("done: "), 1, self.said)
        files = [{path.name for path in (folder / "latest").iterdir()} for folder in (self.one, self.two)]
        self.assertEqual(files[0] - {"optimizer-00001-of-00001.safetensors"},
                         files[1] - {"optimizer-00001-of-00002.safetensors", "optimizer-00002-of-00002.safetensors"})
        one, two = tensors_of(self.one / "latest"), tensors_of(self.two / "latest")
        self.assertEqual(sorted(one), sorted(two))  # each tensor once, in the file of its owner
        self.assertEqual(len(one), len(set(one)))
        self.assertEqual((self.one / "latest/config.json").read_bytes(), (self.two / "latest/config.json").read_bytes())
        moe("generate", self.two, "--prompt", "int", "--max-new-tokens", 3)

    def test_the_same_ranks_give_the_same_bits(self):
        folder = self.base / "again"
        self.train(folder, "--ranks", 2)
        self.assertEqual(log_without_times(folder / "log.jsonl"), log_without_times(self.two / "log.jsonl"))
        for name in ("model.safetensors", "optimizer-00001-of-00002.safetensors", "optimizer-00002-of-00002.safetensors"):
            self.assertEqual((folder / "latest" / name).read_bytes(), (self.two / "latest" / name).read_bytes(), name)

    def test_any_number_of_ranks_resumes_any_other(self):
        schedule = ["--set", "schedule.kind=constant", "--set", "schedule.warmup_steps=2"]
        for number_type in ("f32", "bf16"):
            more = [*schedule, "--set", f"train.dtype={number_type}"]
            straight, folder = self.base / f"straight-{number_type}", self.base / f"resumed-{number_type}"
            self.train(straight, *more)
            self.train(folder, *more, "--ranks", 4, "--set", "train.steps=4")
            for ranks, steps in ((2, 8), (1, 12)):
                said = self.train(folder, *more, "--ranks", ranks, "--resume", "--set", f"train.steps={steps}",
                                  "--allow-change", "train.steps").stderr
                self.assertIn(f"at step {steps - 4}", said)
            if number_type == "f32":
                self.assert_near(straight, folder)
            else:  # rounding of activations changes more routes
                losses = [log_without_times(run / "log.jsonl")[-1]["loss"] for run in (straight, folder)]
                self.assertAlmostEqual(*losses, delta=0.01 * losses[0])

    def test_a_resumed_run_is_the_run_that_went_on(self):
        folder = self.base / "stopped"
        process = self.start(folder, "--ranks", 2)
        self.wait_for_step(folder, 4)
        for child in children_of(process.pid):
            os.kill(child, signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
        if process.returncode != 0:  # else the run had ended before the signal came
            self.assertEqual(process.returncode, 128 + signal.SIGTERM, said)
            self.assertEqual(said.count("stopped by a signal after step"), 1, said)
            self.train(folder, "--ranks", 2, "--resume")
        self.assertEqual(log_without_times(folder / "log.jsonl"), log_without_times(self.two / "log.jsonl"))
        self.assertEqual((folder / "latest/model.safetensors").read_bytes(), (self.two / "latest/model.safetensors").read_bytes())

    def test_a_signal_to_any_rank_stops_all_after_the_same_step(self):
        for rank in (0, 1, 2):
            folder = self.base / f"signal-{rank}"
            process = self.start(folder, "--ranks", 4, "--set", "train.steps=100000")
            self.wait_for_step(folder, 3)
            os.kill([process.pid, *children_of(process.pid)][rank], signal.SIGTERM)
            said = process.communicate(timeout=60)[1]
            self.assertEqual(process.returncode, 128 + signal.SIGTERM, said)
            last = log_without_times(folder / "log.jsonl")[-1]["step"]
            self.assertIn(f"stopped by a signal after step {last};", said)
            self.assertEqual(os.readlink(folder / "latest"), f"step-{last}")

    def end_one(self, name, number, rank, ranks=3, more=()):
        """Ends one rank of a run of three, or more, by a signal; what the survivors said, and the statuses."""
        return self.spoil_one(name, lambda processes: os.kill(processes[rank], number), ranks, more)

    def hang_one(self, name, rank, ranks, more=()):
        """The same of a rank whose main thread does nothing any more, while its other threads run."""
        sign = self.base / f"{name}-hangs"
        return self.spoil_one(name, lambda processes: sign.touch(), ranks, more,
                              with_library("hang_when", {"HANG_RANK": str(rank), "HANG_WHEN": str(sign)}))

    def spoil_one(self, name, spoil, ranks, more, environment=None):
        folder = self.base / name
        process = self.start(folder, "--ranks", ranks, "--set", f"data.rows_per_step={2 * ranks}", "--set", "train.steps=100000",
                             "--set", "schedule.warmup_steps=2", *more, environment=environment)
        self.wait_for_step(folder, 6)
        others = children_of(process.pid)
        self.assertEqual(len(others), ranks - 1)
        began = time.monotonic()
        spoil([process.pid, *others])
        said = process.communicate(timeout=60)[1]
        while any(pathlib.Path(f"/proc/{other}").exists() for other in others) and time.monotonic() - began < 30:
            time.sleep(0.05)
        self.assertLess(time.monotonic() - began, 20)
        checkpoint = folder / os.readlink(folder / "latest")
        self.assertIn("checksums.json", os.listdir(checkpoint))
        return folder, process.returncode, said

    def test_a_rank_that_is_killed_ends_all(self):
        folder, status, said = self.end_one("killed-1", signal.SIGKILL, 1)
        self.assertEqual(status, LOST, said)
        self.assertRegex(said, rf"error: rank [12] on {socket.gethostname()} ended in step \d+: it was killed, or its connection "
                               r"broke; the newest checkpoint is \S+/step-\d+; go on with --resume")
        self.assertEqual(said.count("error:"), 1, said)
        self.assertEqual(json.loads((folder / "status.json").read_text())["state"], "failed")
        newest = int(os.readlink(folder / "latest").removeprefix("step-"))
        moe(*self.arguments(folder, "--ranks", 3, "--resume", "--set", "data.rows_per_step=6", "--set", f"train.steps={newest + 2}",
                            "--allow-change", "train.steps", "--set", "schedule.warmup_steps=2"))

    def test_a_rank_that_is_killed_before_all_have_met_ends_all(self):
        for victim in (0, 1, 2):
            folder = self.base / f"killed-early-{victim}"
            process = subprocess.Popen([MOE, *map(str, self.arguments(folder, "--ranks", 3, "--set", "data.rows_per_step=6"))],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            ranks = []
            while len(ranks) < 3 and process.poll() is None:
                ranks = [process.pid, *children_of(process.pid)]
            os.kill(ranks[victim], signal.SIGKILL)
            said = process.communicate(timeout=20)[1]
            self.assertEqual(process.returncode, -signal.SIGKILL if victim == 0 else LOST, said)
            ended = "rank 0 .*ended" if victim == 0 else rf"rank {victim} on \S+ ended: it was killed"
            self.assertRegex(said, f"error: .*{ended}")

    def test_the_loss_of_rank_0_is_told_by_the_others(self):
        _, status, said = self.end_one("killed-0", signal.SIGKILL, 0)
        self.assertEqual(status, -signal.SIGKILL)
        for rank in (1, 2):
            self.assertRegex(said, rf"error: rank {rank} on \S+: rank 0 on \S+ ended in step \d+: it was killed, or its connection broke")

    def test_a_rank_that_stops_answering_ends_all(self):
        _, status, said = self.end_one("stopped-2", signal.SIGSTOP, 2)
        self.assertEqual(status, LOST, said)
        self.assertRegex(said, r"error: rank [12] on \S+ ended in step \d+: it has not answered for 10 s; the newest checkpoint is ")

    def test_a_rank_that_hangs_ends_all(self):
        for rank, ranks, more, seconds in ((1, 2, (), r"\d\d"), (0, 2, ("--hang-limit", 6), "[67]"), (3, 4, (), r"\d\d"),
                                           (2, 4, ("--pipeline", 2, "--expert-parallel", 2), r"\d\d")):
            folder, status, said = self.hang_one(f"hangs-{rank}-{ranks}-{len(more)}", rank, ranks, more)
            self.assertEqual(status, LOST, said)
            self.assertRegex(said, rf"error: rank {rank} on {socket.gethostname()} ended in step \d+: it is alive, but has done nothing "
                                   rf"for {seconds} s, and the others wait; .*go on with --resume")
            self.assertEqual(said.count("error:"), 1, said)
        moe("generate", folder, "--prompt", "int", "--max-new-tokens", 3)

    def launched(self, folder, *more, ranks=2, change=(), change_environment=None, within=None, address="127.0.0.1"):
        """The ranks as a launcher starts them. `change` are further options of the last one; `within` has a command for each
        that it runs in."""
        port = free_port()
        processes = []
        for rank in range(ranks):
            last = rank == ranks - 1
            variables = {"RANK": rank, "WORLD_SIZE": ranks, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": address,
                         "MASTER_PORT": port}
            environment = {**os.environ, **{name: str(value) for name, value in variables.items()},
                           **(change_environment or {} if last else {})}
            command = [*(within[rank] if within else []), MOE, *self.arguments(folder, *more, *(change if last else []))]
            processes.append(subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                              stdin=subprocess.DEVNULL, text=True, env=environment))
        return [(process.communicate(timeout=120)[1], process.returncode) for process in processes]

    def test_a_launcher_starts_the_ranks(self):
        folder = self.base / "launched"
        results = self.launched(folder)
        self.assertEqual([status for _, status in results], [0, 0], results)
        self.assertEqual(results[1][0], "")
        self.assertEqual(log_without_times(folder / "log.jsonl"), log_without_times(self.two / "log.jsonl"))

    def test_two_machines(self):
        """Two network namespaces, which reach each other as machines do."""
        if shutil.which("ip") is None:
            self.skipTest("the command ip is not here")
        names = [f"moe-test-{os.getpid()}-{side}" for side in (0, 1)]
        inside = [["ip", "netns", "exec", name] for name in names]
        setup = [*(["ip", "netns", "add", name] for name in names),
                 ["ip", "link", "add", "moe0", "netns", names[0], "type", "veth", "peer", "moe1", "netns", names[1]],
                 *([*inside[side], "ip", "addr", "add", f"10.213.7.{side + 1}/24", "dev", f"moe{side}"] for side in (0, 1)),
                 *([*inside[side], "ip", "link", "set", f"moe{side}", "up"] for side in (0, 1))]
        try:
            for command in setup:
                if subprocess.run(command, capture_output=True).returncode != 0:
                    self.skipTest("no network namespaces can be made here")
            folder = self.base / "machines"
            results = self.launched(folder, within=inside, address="10.213.7.1")
        finally:
            for name in names:
                subprocess.run(["ip", "netns", "del", name], capture_output=True)
        self.assertEqual([status for _, status in results], [0, 0], results)
        self.assertEqual(log_without_times(folder / "log.jsonl"), log_without_times(self.two / "log.jsonl"))

    def test_the_benchmarks_print_every_layout(self):
        if DEVICE != "cpu":
            self.skipTest("their models are too large for a test on a GPU")
        result = subprocess.run([sys.executable, ROOT / "bench/eight_gpus.py", "--moe", MOE, "--data", self.base / "dataset",
                                 "--gpus", "2", "--device", "cpu", "--steps", "2", "--tiny", "--step-rows", "4",
                                 "--folder", self.base, "--logs", self.base / "kept"], capture_output=True, text=True, cwd=ROOT)
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = [line.split(" | ") for line in result.stdout.splitlines() if line.startswith("| ")][1:]
        layouts = [("1", "1"), ("2", "1"), ("2", "1"), ("2", "1"), ("2", "2"), ("2", "2")]
        self.assertEqual([(row[1], row[2]) for row in rows], layouts)
        self.assertTrue(all(float(row[5].replace(",", "")) > 0 for row in rows), result.stdout)
        logs = sorted((self.base / "kept").iterdir())
        self.assertEqual(len(logs), len(layouts))
        self.assertTrue(all("loss" in json.loads(log.read_text().split("\n")[-2]) for log in logs))

    def test_the_benchmark_trains_stages(self):
        result = subprocess.run([sys.executable, ROOT / "bench/ranks.py", self.run_file, "--moe", MOE, "--data", self.base / "dataset",
                                 "--ranks", "1,2", "--pipeline", "1,2", "--device", DEVICE, "--steps", "2", "--rounds", "1",
                                 "--rows", "4", "--folder", self.base], capture_output=True, text=True, cwd=ROOT)
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = [line.split(" | ") for line in result.stdout.splitlines() if line.startswith("| ")][1:]
        self.assertEqual([row[2] for row in rows], ["1", "2"])
        self.assertTrue(all(float(row[4].replace(",", "")) > 0 for row in rows), result.stdout)

    def test_a_checkpoint_that_one_rank_cannot_write_is_not_there(self):
        folder = self.base / "full"
        full = with_library("fail_at_write", {"FAIL_UNDER": "/step-", "FAIL_AT": "1", "FAIL_ERRNO": "28", "FAIL_ALWAYS": "1"})
        (said, status), (other, other_status) = self.launched(folder, change_environment=full)
        self.assertEqual((status, other_status), (1, 1), said + other)
        self.assertIn("warning: the checkpoint of step 4 was NOT written: ", said)
        self.assertIn("No space left on device", said)
        self.assertEqual(said.count("error:"), 1, said)  # the last step's
        self.assertEqual(other, "")
        self.assertEqual([path.name for path in folder.glob("step-*")], [])
        self.assertEqual([line["step"] for line in log_without_times(folder / "log.jsonl")], list(range(1, STEPS + 1)))

    def test_a_run_that_diverges_ends_on_all_ranks(self):
        folder = self.base / "diverged"
        result = self.train(folder, "--ranks", 2, "--set", "optimizer.learning_rate=1e6", "--set", "schedule.warmup_steps=0",
                            check=False)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertEqual(result.stderr.count("error:"), 1, result.stderr)
        self.assertIn("training has diverged", result.stderr)

    def test_ranks_with_different_settings_do_not_begin(self):
        folder = self.base / "different"
        (said, status), (other, other_status) = self.launched(folder, change=["--set", "optimizer.learning_rate=0.5"])
        self.assertEqual((status, other_status), (1, 1), said)
        self.assertIn("the run file of rank 1 on ", said)
        self.assertIn('"learning_rate = 0.5", expected "learning_rate = 0.003"', said)
        self.assertEqual(other, "")
        self.assertFalse((folder / "run.toml").exists())

    def test_an_error_of_one_rank_ends_all_with_its_sentence(self):
        folder = self.base / "error"
        (said, status), (other, other_status) = self.launched(folder, change=["--memory-limit", "1MB"])
        self.assertEqual((status, other_status), (LOST, 1), said + other)
        self.assertIn("error: rank 1 on ", other)
        self.assertIn("training needs", other)
        self.assertIn("error: rank 1 on ", said)
        self.assertIn("training needs", said)

    def test_what_ranks_cannot_do_is_refused_by_name(self):
        folder = self.base / "refused"
        for more, expected in ((["--ranks", 3], "data.rows_per_step is 8, expected a multiple of 6"),
                               (["--ranks", 2, "--set", f"model.from={self.two}", "--set", "train.parameters=lora"],
                                "train.parameters = lora: 2 ranks cannot"),
                               (["--ranks", 2, "--set", f"model.from={self.two}", "--set", "train.objective=dpo"],
                                "train.objective = dpo: 2 ranks cannot"),
                               (["--ranks", 2, "--find-rate"], "--find-rate trains with one rank"),
                               (["--ranks", 4, "--expert-parallel", 3], "--expert-parallel 3: there are 4 ranks, expected a multiple of 3"),
                               (["--ranks", 4, "--expert-parallel", 4],
                                "--expert-parallel 4: the model has 6 routed experts, expected a multiple of 4"),
                               (["--ranks", 3, "--pipeline", 2], "--pipeline 2: there are 3 ranks, expected a multiple of 2"),
                               (["--ranks", 3, "--pipeline", 3], "--pipeline 3: the model has 2 layers, and each stage needs one"),
                               (["--ranks", 2, "--pipeline", 2, "--find-rate"], "--find-rate trains with one rank"),
                               (["--expert-parallel", 2], "--expert-parallel 2: there is 1 rank, expected a multiple of 2")):
            result = self.train(folder, *more, check=False)
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn(expected, result.stderr)
            self.assertEqual(result.stderr.count("error:"), 1, result.stderr)
        self.assertFalse(folder.exists())

    def test_ranks_without_a_gpu_each_are_refused(self):
        folder = self.base / "gpus"
        few = gpus() + 1 if DEVICE == "cuda" else 2
        command = ["train", self.run_file, "--device", "cuda", "--ranks", few, "--set", f"run.dir={folder}",
                   "--set", f"data.rows_per_step={2 * few}"]
        result = moe(*command, check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertEqual(result.stderr.count("error:"), 1, result.stderr)
        if DEVICE == "cuda":
            self.assertIn(f"--device cuda: {few} ranks on this machine need a GPU each, and it has {gpus()}; use {gpus()} ranks, "
                          "or --device cpu", result.stderr)
        else:
            self.assertRegex(result.stderr, "error: --device cuda: .*; or use --device cpu")
        self.assertFalse(folder.exists())

    def test_ranks_that_divide_the_experts_train_what_one_trains(self):
        samples = ["--set", 'sample.prompts=["int "]', "--set", "sample.every=4", "--set", "sample.max_new_tokens=8"]
        one, two = self.base / "samples", self.base / "experts"
        alone, together = self.train(one, *samples), self.train(two, *samples, "--ranks", 2, "--expert-parallel", 2)
        self.assert_near(one, two)
        self.assertIn("on each of 2 ranks (experts divided among 2)", together.stderr)
        # Before the first step all have the same weights, so that the first samples are equal.
        self.assertEqual(together.stdout.count("--- samples after step"), 4)
        self.assertEqual(*(result.stdout.partition("--- samples after step 4 ---")[0] for result in (alone, together)))
        weights = sorted(path.name for path in (two / "latest").glob("model*"))
        self.assertEqual(weights, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"])
        for pattern in ("optimizer-*.safetensors", "model*.safetensors"):
            names = [sorted(tensors_of(run / "latest", pattern)) for run in (one, two)]
            self.assertEqual(*names)  # each tensor once
            self.assertEqual(len(names[1]), len(set(names[1])))
        moe("generate", two, "--prompt", "int", "--max-new-tokens", 3)
        folder = self.base / "experts-again"
        self.train(folder, *samples, "--ranks", 2, "--expert-parallel", 2)
        self.assertEqual(log_without_times(folder / "log.jsonl"), log_without_times(two / "log.jsonl"))
        for name in weights:
            self.assertEqual((folder / "latest" / name).read_bytes(), (two / "latest" / name).read_bytes(), name)

    def test_any_layout_resumes_any_other(self):
        more = ["--set", "schedule.kind=constant", "--set", "schedule.warmup_steps=2", "--set", "model.n_routed_experts=8"]
        layouts = (["--ranks", 4, "--expert-parallel", 4], ["--ranks", 4, "--expert-parallel", 2, "--pipeline", 2],
                   ["--ranks", 4, "--expert-parallel", 2], ["--ranks", 2], ["--ranks", 2, "--pipeline", 2], [],
                   ["--ranks", 4, "--pipeline", 2], ["--ranks", 2, "--expert-parallel", 2])
        for number_type in ("f32", "bf16"):
            typed = [*more, "--set", f"train.dtype={number_type}", "--set", f"train.steps={2 * len(layouts)}"]
            straight, folder = self.base / f"one-{number_type}", self.base / f"layouts-{number_type}"
            self.train(straight, *typed)
            for number, layout in enumerate(layouts):
                steps = 2 * number + 2
                said = self.train(folder, *typed, *layout, "--set", f"train.steps={steps}",
                                  *(["--resume", "--allow-change", "train.steps"] if number > 0 else [])).stderr
                self.assertIn(f"at step {steps - 2}" if number > 0 else ", new", said)
            first, last = log_without_times(straight / "log.jsonl"), log_without_times(folder / "log.jsonl")
            self.assertEqual([line["step"] for line in first], [line["step"] for line in last])
            for a, b in zip(first, last):  # rounding of activations changes more routes
                self.assertAlmostEqual(a["loss"], b["loss"], delta=(2e-4 if number_type == "f32" else 0.01) * a["loss"])

    def test_a_killed_rank_with_experts_of_its_own_ends_all(self):
        layout = ["--expert-parallel", 2]
        folder, status, said = self.end_one("killed-experts", signal.SIGKILL, 2, ranks=4, more=layout)
        self.assertEqual(status, LOST, said)
        self.assertRegex(said, r"error: rank [123] on \S+ ended in step \d+: it was killed, or its connection broke; the newest "
                               r"checkpoint is \S+/step-\d+; go on with --resume")
        self.assertEqual(said.count("error:"), 1, said)
        newest = int(os.readlink(folder / "latest").removeprefix("step-"))
        self.train(folder, "--ranks", 2, "--resume", "--set", "data.rows_per_step=8", "--set", f"train.steps={newest + 2}",
                   "--allow-change", "train.steps", "--set", "schedule.warmup_steps=2")

    def test_a_signal_stops_ranks_that_divide_the_experts(self):
        """Most of the time is spent in evaluations and samples, which all of them make together."""
        often = [word for setting in ("eval.every=1", "sample.every=1", "sample.max_new_tokens=30", 'sample.prompts=["int "]',
                                      "train.steps=100000") for word in ("--set", setting)]
        for rank in (0, 1, 3):
            folder = self.base / f"signal-experts-{rank}"
            process = self.start(folder, "--ranks", 4, "--expert-parallel", 2, *often)
            self.wait_for_step(folder, 2 + rank)
            os.kill([process.pid, *children_of(process.pid)][rank], signal.SIGTERM)
            said = process.communicate(timeout=60)[1]
            self.assertEqual(process.returncode, 128 + signal.SIGTERM, said)
            last = log_without_times(folder / "log.jsonl")[-1]["step"]
            self.assertIn(f"stopped by a signal after step {last};", said)
            self.assertEqual(os.readlink(folder / "latest"), f"step-{last}")
        moe("generate", folder, "--prompt", "int", "--max-new-tokens", 3)

    def test_stages_train_what_one_rank_trains(self):
        samples = ["--set", 'sample.prompts=["int "]', "--set", "sample.every=4", "--set", "sample.max_new_tokens=8"]
        one = self.base / "stages-one"
        alone = self.train(one, *samples)
        for name, layout, files in (("stages", ["--ranks", 2, "--pipeline", 2], 2),
                                    ("stages-experts", ["--ranks", 4, "--pipeline", 2, "--expert-parallel", 2], 4)):
            folder = self.base / name
            together = self.train(folder, *samples, *layout)
            self.assert_near(one, folder)
            self.assertIn("layers among 2 stages)", together.stderr)
            warned = "each of 2 stages waits 33% of the time" in together.stderr
            self.assertEqual(warned, files == 4, together.stderr)  # two microbatches
            # Before the first step all have the same weights, so that the first samples are equal.
            self.assertEqual(together.stdout.count("--- samples after step"), 4)
            self.assertEqual(*(result.stdout.partition("--- samples after step 4 ---")[0] for result in (alone, together)))
            weights = sorted(path.name for path in (folder / "latest").glob("model*"))
            self.assertEqual(weights, [*(f"model-{i + 1:05}-of-{files:05}.safetensors" for i in range(files)),
                                       "model.safetensors.index.json"])
            for pattern in ("optimizer-*.safetensors", "model*.safetensors"):
                names = [sorted(tensors_of(run / "latest", pattern)) for run in (one, folder)]
                self.assertEqual(*names)  # each tensor once
                self.assertEqual(len(names[1]), len(set(names[1])))
            moe("generate", folder, "--prompt", "int", "--max-new-tokens", 3)
            again = self.base / (name + "-again")
            self.train(again, *samples, *layout)
            self.assertEqual(log_without_times(again / "log.jsonl"), log_without_times(folder / "log.jsonl"))
            for file in weights:
                self.assertEqual((again / "latest" / file).read_bytes(), (folder / "latest" / file).read_bytes(), file)

    def test_a_killed_rank_of_any_stage_ends_all(self):
        for rank in (1, 2):
            folder, status, said = self.end_one(f"killed-stage-{rank}", signal.SIGKILL, rank, ranks=4, more=["--pipeline", 2])
            self.assertEqual(status, LOST, said)
            self.assertRegex(said, r"error: rank [123] on \S+ ended in step \d+: it was killed, or its connection broke; the newest "
                                   r"checkpoint is \S+/step-\d+; go on with --resume")
            self.assertEqual(said.count("error:"), 1, said)
        newest = int(os.readlink(folder / "latest").removeprefix("step-"))
        self.train(folder, "--ranks", 2, "--resume", "--set", "data.rows_per_step=8", "--set", f"train.steps={newest + 2}",
                   "--allow-change", "train.steps", "--set", "schedule.warmup_steps=2")

    def test_a_signal_stops_all_stages(self):
        often = [word for setting in ("eval.every=1", "sample.every=1", "sample.max_new_tokens=30", 'sample.prompts=["int "]',
                                      "train.steps=100000") for word in ("--set", setting)]
        for rank, more in ((0, often), (1, []), (3, often)):
            folder = self.base / f"signal-stage-{rank}"
            process = self.start(folder, "--ranks", 4, "--pipeline", 2, "--set", "train.steps=100000", *more)
            self.wait_for_step(folder, 2 + rank)
            os.kill([process.pid, *children_of(process.pid)][rank], signal.SIGTERM)
            said = process.communicate(timeout=60)[1]
            self.assertEqual(process.returncode, 128 + signal.SIGTERM, said)
            last = log_without_times(folder / "log.jsonl")[-1]["step"]
            self.assertIn(f"stopped by a signal after step {last};", said)
            self.assertEqual(os.readlink(folder / "latest"), f"step-{last}")
        moe("generate", folder, "--prompt", "int", "--max-new-tokens", 3)

    def test_stages_that_diverge_end_with_one_sentence(self):
        result = self.train(self.base / "diverged-stages", "--ranks", 2, "--pipeline", 2, "--set", "optimizer.learning_rate=1e6",
                            "--set", "schedule.warmup_steps=0", check=False)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertEqual(result.stderr.count("error:"), 1, result.stderr)
        self.assertIn("training has diverged", result.stderr)

    def test_samples_of_stages_that_have_different_layers(self):
        """The first stage has dense layers, which need less than those of the last one."""
        words = ["--set", 'sample.prompts=["int "]', "--set", "sample.every=4", "--set", "sample.max_new_tokens=8", "--set",
                 "model.num_hidden_layers=2", "--set", "model.first_k_dense_replace=1", "--set", "model.intermediate_size=4", "--set",
                 "model.moe_intermediate_size=128"]
        alone, stages = (self.train(self.base / f"unlike-{ranks}", *words, "--ranks", ranks, "--pipeline", ranks) for ranks in (1, 2))
        self.assertIn("--- samples after step 0 ---", alone.stdout)
        # Before the first step all have the same weights, so that the first samples are equal.
        self.assertEqual(*(result.stdout.partition("--- samples after step 4 ---")[0] for result in (alone, stages)))

    def test_stages_whose_head_is_the_embedding(self):
        more = ["--set", "model.tie_word_embeddings=true", "--set", "schedule.kind=constant", "--set", "schedule.warmup_steps=2"]
        one, folder = self.base / "tied-one", self.base / "tied-stages"
        self.train(one, *more)
        most = 4 if DEVICE == "cpu" or gpus() >= 4 else 2
        for number, layout in enumerate((["--ranks", most, "--pipeline", 2], [], ["--ranks", 2, "--pipeline", 2])):
            steps = 4 * number + 4
            self.train(folder, *more, *layout, "--set", f"train.steps={steps}",
                       *(["--resume", "--allow-change", "train.steps"] if number > 0 else []))
            for pattern in ("optimizer-*.safetensors", "model*.safetensors"):
                self.assertEqual(*(sorted(tensors_of(run, pattern)) for run in (one / "latest", folder / f"step-{steps}")))
        self.assert_near(one, folder)
        moe("generate", folder, "--prompt", "int", "--max-new-tokens", 3)

    def test_a_run_of_stages_begins_with_a_model(self):
        logs = []
        for name, layout in (("from-one", []), ("from-stages", ["--ranks", 2, "--pipeline", 2])):
            self.train(self.base / name, "--set", f"model.from={self.one}", *layout)
            logs.append(self.base / name)
        self.assert_near(*logs)

    def test_ranks_with_different_layouts_do_not_begin(self):
        (said, status), (other, _) = self.launched(self.base / "layout", change=["--expert-parallel", 2])
        self.assertEqual(status, 1, said)
        self.assertIn('the layout of rank 1 on ', said)
        self.assertIn('"--expert-parallel 2", expected "--expert-parallel 1"', said)
        self.assertEqual(other, "")

    def test_a_checkpoint_without_a_ranks_experts_is_not_used(self):
        folder = self.base / "without"
        layout = ["--ranks", 2, "--expert-parallel", 2]
        self.train(folder, *layout)
        (folder / f"step-{STEPS}/model-00002-of-00002.safetensors").unlink()
        result = moe("generate", folder / f"step-{STEPS}", "--prompt", "int", "--max-new-tokens", 3, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("model-00002-of-00002.safetensors", result.stderr)
        said = self.train(folder, *layout, "--resume").stderr
        self.assertIn(f"step-{STEPS - 4}", said)

    def test_a_dry_run_plans_for_a_rank(self):
        text = self.train(self.base / "planned", "--ranks", 2, "--dry-run").stdout
        self.assertIn("in 2 microbatches of 2 rows on each of 2 ranks", text)
        self.assertRegex(text, r"memory .*, each rank")
        text = self.train(self.base / "planned", "--ranks", 2, "--pipeline", 2, "--dry-run").stdout
        self.assertIn("in 4 microbatches of 2 rows on each of 2 ranks (layers among 2 stages)", text)
        self.assertRegex(text, r"rank +gradients +weights +stages +statistics +sends +receives")
        self.assertRegex(text, r"memory .*, rank [01]\n")
        # Large experts, so that nothing else matters.
        wide = ["--dry-run", "--verbose", "--set", "model.moe_intermediate_size=262144", "--set", "model.n_shared_experts=0"]
        texts = [self.train(self.base / "planned", "--ranks", 2, *wide, *layout).stdout for layout in ([], ["--expert-parallel", 2])]
        for what in ("parameters", "gradients"):
            whole, half = (float(re.search(rf"^  {what} +([0-9.]+) GiB", text, re.M).group(1)) for text in texts)
            self.assertAlmostEqual(half, whole / 2, delta=0.03 * whole)


if __name__ == "__main__":
    if DEVICE == "cuda" and gpus() < 2:
        print(f"skipped: two GPUs are needed, {gpus()} are here")
        sys.exit(SKIPPED)
    unittest.main()
