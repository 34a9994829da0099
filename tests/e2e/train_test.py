"""moe train as a user types it: resuming bit for bit after kill -9, signals, evaluation on and off, users' mistakes.

Usage: train_test.py PATH_OF_MOE
"""

import fcntl
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import unittest

from support import MOE, ROOT, log_without_times, make_dataset, moe, signalled, write_small_run


class TrainTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-train-test-"))
        texts = sorted((ROOT / "src").rglob("*.h"))[:12]
        make_dataset(cls.base, {"headers": [path.read_text() for path in texts]})
        write_small_run(cls.base / "run.toml", cls.base)
        cls.straight = cls.base / "straight"
        cls.train(cls.straight)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    @classmethod
    def arguments(cls, folder, *more):
        return ["train", cls.base / "run.toml", "--set", f"run.dir={folder}", *more]

    @classmethod
    def train(cls, folder, *more, check=True):
        return moe(*cls.arguments(folder, *more), check=check)

    def signalled(self, number, line, folder, *more):
        return signalled(number, self.arguments(folder, *more), folder / "log.jsonl", line)

    def assert_same_run(self, a, b):
        self.assertEqual(log_without_times(a / "log.jsonl"), log_without_times(b / "log.jsonl"))
        self.assertEqual((a / "eval.jsonl").read_text(), (b / "eval.jsonl").read_text())
        for name in ("model.safetensors", "optimizer-00001-of-00001.safetensors", "config.json", "tokenizer.json"):
            self.assertEqual((a / "latest" / name).read_bytes(), (b / "latest" / name).read_bytes(), name)

    def test_a_run_killed_and_resumed_equals_the_straight_one_bit_for_bit(self):
        for dtype in ("f32", "bf16"):
            straight, folder, more = self.straight, self.base / f"killed-{dtype}", ["--set", f"train.dtype={dtype}"]
            if dtype == "bf16":
                straight = self.base / "straight-bf16"
                self.train(straight, *more)
            for line, resume, step in ((8, [], None), (12, ["--resume"], "step-5")):  # killed twice, behind different checkpoints
                killed = self.signalled(signal.SIGKILL, line, folder, *more, *resume)
                self.assertEqual(killed.returncode, -signal.SIGKILL)
                if step:
                    self.assertIn(f"{step} at step", killed.stderr)
            self.assertEqual(os.readlink(folder / "latest"), "step-15")
            self.train(folder, "--resume", *more)
            self.assert_same_run(straight, folder)

    def test_signals_save_a_checkpoint_and_set_the_status(self):
        for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            folder = self.base / f"signal-{status}"
            stopped = self.signalled(number, 7, folder)
            self.assertEqual(stopped.returncode, status)
            self.assertIn("go on with --resume", stopped.stderr)
            self.assertEqual(os.readlink(folder / "latest"), "step-7")
            self.assertEqual(len(log_without_times(folder / "log.jsonl")), 7)
            self.train(folder, "--resume")
            self.assert_same_run(self.straight, folder)

    def test_the_checkpoints_that_are_kept(self):
        for keep, kept in (([], [25, 30]), (["checkpoint.keep_last=1", "checkpoint.keep_every=10"], [10, 20, 30]),
                           (["checkpoint.keep_last=3"], [20, 25, 30])):
            folder = self.base / f"kept-{len(keep)}-{kept[0]}"
            self.train(folder, *[part for key in keep for part in ("--set", key)])
            self.assertEqual(sorted(path.name for path in folder.glob("step-*")), [f"step-{step}" for step in kept])
            self.assertEqual(os.readlink(folder / "latest"), "step-30")

    def test_hours_are_steps_that_every_resume_keeps(self):
        folder, same = self.base / "hours", self.base / "hours-as-steps"
        said = self.train(folder, "--set", "train.hours=0.0002").stderr
        found = re.search(r"train.hours = 0.0002: (\d+) steps, by ([0-9.]+) s a step", said)
        self.assertIsNotNone(found, said)
        steps = int(found[1])
        self.assertGreaterEqual(steps, 1)
        self.assertIn(f"\nsteps = {steps}\n", (folder / "run.toml").read_text())
        self.assertIn("\nhours = 0.0\n", (folder / "run.toml").read_text())
        self.assertEqual(len(log_without_times(folder / "log.jsonl")), steps)
        self.train(same, "--set", f"train.steps={steps}")
        self.assert_same_run(folder, same)
        again = self.train(folder, "--set", "train.hours=0.0002", "--resume").stderr
        self.assertIn(f"began with {steps} steps and keeps them", again)
        self.assert_same_run(folder, same)

    def test_an_epoch_passes_over_every_token_once(self):
        folder = self.base / "epoch"
        self.train(folder, "--set", "train.epochs=1", "--set", "data.rows_per_step=1", "--set", "data.microbatch_rows=1",
                   "--set", "data.sequence_length=64", "--set", 'data.valid=""', "--set", "checkpoint.every=0")
        domains = json.loads((self.base / "dataset" / "dataset.json").read_text())["domains"]
        self.assertEqual(sum(line["tokens"] for line in log_without_times(folder / "log.jsonl")),
                         sum(domain["tokens"] for domain in domains))

    def test_every_key_is_listed(self):
        said = moe("train", "--keys")
        self.assertEqual(said.stderr, "")
        self.assertIn(said.stdout, (ROOT / "docs/training.md").read_text())
        self.assertIn("| `optimizer.learning_rate` | number from 0 to 1000000 | 0.001 |", said.stdout)

    def test_mistakes_are_told_together(self):
        said = self.train(self.base / "mistakes", "--set", "lr=1", "--set", "batch_size=2", check=False)
        self.assertEqual(said.returncode, 2)
        self.assertEqual(said.stderr.count("error:"), 1)
        self.assertIn("--set lr=1: unknown key lr; did you mean optimizer.learning_rate?", said.stderr)
        self.assertIn("--set batch_size=2: unknown key batch_size; did you mean data.rows_per_step?", said.stderr)
        self.assertFalse((self.base / "mistakes").exists())

    def test_resume_without_a_checkpoint_starts_at_step_0(self):
        folder = self.base / "fresh"
        self.assertIn("starting at step 0", self.train(folder, "--resume").stderr)
        self.assert_same_run(self.straight, folder)

    def test_evaluation_changes_nothing_in_the_run(self):
        folder = self.base / "unevaluated"
        self.train(folder, "--set", 'data.valid=""')
        self.assertEqual(log_without_times(self.straight / "log.jsonl"), log_without_times(folder / "log.jsonl"))
        self.assertEqual((folder / "eval.jsonl").read_text(), "")

    def test_threads_change_nothing_in_the_run(self):
        folder = self.base / "one-thread"
        self.train(folder, "--threads", 1)
        self.assert_same_run(self.straight, folder)

    def test_the_log_has_one_complete_object_a_step(self):
        lines = log_without_times(self.straight / "log.jsonl")
        self.assertEqual([line["step"] for line in lines], list(range(1, 31)))
        for line in lines:
            self.assertEqual(len(line["layers"]), 2)
            self.assertLessEqual({"loss", "expert_loss", "device_loss", "gradient_norm", "learning_rate"}, line.keys())
            for layer in line["layers"]:
                self.assertGreater(layer["expert_loss"], 0)
                self.assertTrue(0 <= layer["load_entropy"] <= 1)
                self.assertGreaterEqual(layer["max_over_mean_load"], 1)
        self.assertLess(lines[-1]["loss"], lines[0]["loss"] - 0.4)

    def test_a_checkpoint_is_a_model_folder(self):
        out = self.base / "logits.safetensors"
        moe("logits", self.straight / "latest", "--tokens", "1,2,3", "--out", out)
        self.assertGreater(out.stat().st_size, 3 * 400 * 4)
        text = moe("generate", self.straight / "latest", "--prompt", "namespace", "--max-new-tokens", 5, "--seed", 1)
        self.assertNotEqual(text.stdout, "")

    def progress(self, columns):
        """The states of the progress line on a terminal that is so wide."""
        reader, writer = pty.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        folder = self.base / f"columns-{columns}"
        process = subprocess.Popen([MOE, *map(str, self.arguments(folder))], stdout=subprocess.DEVNULL, stderr=writer)
        os.close(writer)
        shown = b""
        try:
            while piece := os.read(reader, 4096):
                shown += piece
        except OSError:  # the other end is closed
            pass
        os.close(reader)
        self.assertEqual(process.wait(), 0, shown)
        return [state.split("\r")[0] for state in shown.decode().split("\r\x1b[K") if "/30" in state]

    def test_the_progress_line_keeps_what_matters_in_a_narrow_terminal(self):
        for columns in (80, 60):
            states = self.progress(columns)
            self.assertGreaterEqual(len(states), 30)
            for state in states:
                self.assertLess(len(state), columns, state)
                self.assertRegex(state, r"\d+/30 .*loss \d+\.\d+.* norm \d+\.\d+.*\d+k?( tok\S*|/s).*\d+s")

    def test_twelve_lines_come_before_the_first_step(self):
        said = self.train(self.base / "twelve", "--set", "train.steps=11").stderr.splitlines()
        words = [line.split()[0] for line in said[:12]]
        self.assertEqual(words, ["run", "device", "model", "data", "steps", "epochs", "schedule", "losses", "compute", "time",
                                 "memory", "checkpoints"])
        self.assertRegex(said[9], r"^time +estimated .* measured: ")
        self.assertRegex(said[11], r"[KM]iB each, at most \d+ at once: .* free on the disk")
        self.assertEqual(len([line for line in said if line.startswith("measured over 10 steps: ")]), 1)
        self.assertNotIn("default", "".join(said[:12]))
        plan = moe(*self.arguments(self.base / "never", "--dry-run"))
        lines = plan.stdout.splitlines()
        self.assertEqual([line.split()[0] for line in lines], [*words, "exports"])
        self.assertRegex(lines[-1], r"^exports to +transformers as DeepseekForCausalLM \(with modeling_moe.py\); not llama.cpp: "
                                    r".*: a GGUF file cannot have this tokenizer: .*--pattern qwen2")
        hashed = moe(*self.arguments(self.base / "never", "--dry-run", "--set", "model.method=hash", "--set", "model.num_experts_per_tok=1")).stdout.splitlines()
        self.assertRegex(hashed[-1], r"as MoeForCausalLM .*; not llama.cpp: .* routing is \"hash\", expected \"topk\"")
        self.assertFalse((self.base / "never").exists())

    def test_a_dry_run_says_what_the_run_would_do_with_its_folder(self):
        file = self.base / "a-file"
        file.write_text("mine")
        for folder in (file, file / "below", "/dev/null", "/proc/run"):
            refusal = self.train(folder, "--dry-run", check=False)
            self.assert_refused(refusal, 1, "cannot")
            self.assertEqual(refusal.stdout, "")
            self.assertEqual(refusal.stderr, self.train(folder, check=False).stderr)
        resumed = self.train(self.straight, "--dry-run", "--resume")
        self.assertRegex(resumed.stdout, r"^run +.*, resumed at step [1-9]")

    def test_a_dry_run_refuses_what_the_run_refuses(self):
        copied = self.base / "copied" / "data"
        shutil.copytree(self.base / "dataset", copied, symlinks=False)
        shard = next(copied.glob("*.bin"))
        content = bytearray(shard.read_bytes())
        content[-1] ^= 1
        shard.write_bytes(content)
        other = self.base / "copied" / "run"
        shutil.copytree(self.straight, other, symlinks=True)
        new = self.base / "never"
        for status, arguments in ((1, [self.straight]), (1, [new, "--set", f"data.train={copied}"]),
                                  (1, [new, "--set", "model.vocab_size=300"]),
                                  (1, [new, "--set", "sample.prompts=[\"" + "long " * 100 + "\"]"]),
                                  (1, [other, "--resume", "--set", "optimizer.beta1=0.8"])):
            refusal = self.train(*arguments, "--dry-run", check=False)
            self.assert_refused(refusal, status)
            self.assertEqual(refusal.stdout, "")
            self.assertEqual(refusal.stderr, self.train(*arguments, check=False).stderr)
        self.assertFalse(new.exists())

    def test_each_dataset_of_a_mixture_has_its_epochs(self):
        data = self.base / "dataset"
        (self.base / "copy").symlink_to(data)
        mixture = f'data.train=[{{path="{data}",weight=0.01}},{{path="{self.base / "copy"}",weight=0.99}}]'
        plan = self.train(self.base / "never", "--dry-run", "--set", mixture, "--set", "train.steps=100000")
        line = next(line for line in plan.stdout.splitlines() if line.startswith("epochs"))
        seen = re.fullmatch(rf"epochs +([0-9.]+) over {data}, ([0-9.]+) over {self.base / 'copy'}", line)
        self.assertIsNotNone(seen, line)
        self.assertAlmostEqual(float(seen[2]) / float(seen[1]), 99, delta=2)
        self.assertIn(f"warning: the run goes over {self.base / 'copy'} ", plan.stderr)

    def test_more_than_four_epochs_are_a_warning(self):
        often = ["--dry-run", "--set", "train.steps=100000"]
        self.assertIn("warning: the run goes over the dataset", moe(*self.arguments(self.base / "never", *often)).stderr)
        self.assertNotIn("warning", moe(*self.arguments(self.base / "never", "--dry-run", "--set", "train.steps=1")).stderr)

    def test_overrides_may_stand_before_the_run_file(self):
        result = moe("train", "--set", "train.steps=3", "--set", f"run.dir={self.base / 'unused'}", self.base / "run.toml",
                     "--dry-run", "--verbose")
        self.assertIn("3 steps of 4 rows of 32 tokens", result.stdout)
        self.assertIn("balance.alpha_expert = 0.01 (default)", result.stdout)
        self.assertFalse((self.base / "unused").exists())

    def assert_refused(self, result, status, *parts):
        self.assertEqual(result.returncode, status, result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)
        self.assertEqual(result.stderr.count("error:"), 1)

    def test_users_mistakes_get_one_sentence(self):
        self.assert_refused(self.train(self.straight, check=False), 1, "already holds a run", "--resume")
        for name in ("run.toml", "eval.jsonl", "log.jsonl", "latest"):  # of somebody else
            folder = self.base / f"others-{name}"
            (folder / name if name == "latest" else folder).mkdir(parents=True)
            if name != "latest":
                (folder / name).write_text("mine\n")
            self.assert_refused(self.train(folder, check=False), 1, f"already holds a run ({name})")
            if name != "run.toml":
                self.assert_refused(self.train(folder, "--resume", check=False), 1, "no run.toml")
            if name != "latest":
                self.assertEqual((folder / name).read_text(), "mine\n")
        self.assert_refused(self.train("", "--dry-run", check=False), 2, "run.dir is empty")
        new = self.base / "never"
        self.assert_refused(self.train(new, "--set", "train.stesp=3", check=False), 2, "train.stesp", "train.steps")
        self.assert_refused(self.train(new, "--set", "train.steps=abc", check=False), 2, "train.steps", "integer")
        self.assert_refused(self.train(new, "--set", "data.microbatch_rows=3", check=False), 2, "divisor")
        self.assert_refused(self.train(new, "--set", "data.train=nowhere", check=False), 1, "nowhere")
        self.assert_refused(self.train(new, "--set", "model.num_experts_per_tok=7", check=False), 2, "num_experts_per_tok")
        self.assert_refused(moe("train", "nowhere.toml", check=False), 1, "nowhere.toml")
        self.assert_refused(self.train(self.straight, "--resume", "--set", "train.seed=5", check=False), 1, "train.seed")
        self.assertFalse((new / "log.jsonl").exists())

    def test_a_failing_disk_leaves_the_last_checkpoint(self):
        folder = self.base / "full-disk"
        self.train(folder, "--set", "train.steps=10")
        before = (folder / "latest" / "model.safetensors").read_bytes()
        limited = subprocess.run(["bash", "-c", f'ulimit -f 40; trap "" XFSZ; exec "$@"', "bash", str(MOE),
                                  *map(str, self.arguments(folder, "--resume", "--set", "train.steps=20",
                                                           "--allow-change", "train.steps"))], capture_output=True, text=True)
        self.assertEqual(limited.returncode, 1, limited.stderr)
        self.assertIn("cannot write", limited.stderr)
        self.assertEqual(os.readlink(folder / "latest"), "step-10")
        self.assertEqual((folder / "latest" / "model.safetensors").read_bytes(), before)
        self.assertEqual(list(folder.glob("*.tmp")), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
