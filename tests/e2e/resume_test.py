"""What becomes of a run that stops: signals, a terminal that goes away, copies, damage, other settings.

Usage: resume_test.py PATH_OF_MOE
"""

import json
import os
import pathlib
import shutil
import signal
import tempfile
import unittest

from support import ROOT, log_without_times, make_dataset, moe, signalled

RUN_FILE = """
[run]
dir = "{folder}/run"
[data]
train = "{folder}/dataset"
sequence_length = 32
rows_per_step = 4
microbatch_rows = 2
[model]
hidden_size = 24
num_hidden_layers = 2
num_attention_heads = 2
n_shared_experts = 1
n_routed_experts = 6
num_experts_per_tok = 2
moe_intermediate_size = 16
max_position_embeddings = 64
[train]
steps = 12
init_std = 0.02
[optimizer]
learning_rate = 3e-3
[schedule]
kind = "constant"
warmup_steps = 2
[checkpoint]
every = 4
"""


class ResumeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-resume-test-"))
        texts = [path.read_text() for path in sorted((ROOT / "src").rglob("*.h"))[:12]]
        make_dataset(cls.base, {"headers": texts})
        (cls.base / "run.toml").write_text(RUN_FILE.format(folder=cls.base))
        cls.straight = cls.base / "straight"
        cls.train(cls.straight)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    @classmethod
    def arguments(cls, folder, *more):
        return ["train", cls.base / "run.toml", "--threads", "1", "--set", f"run.dir={folder}", *more]

    @classmethod
    def train(cls, folder, *more, check=True):
        return moe(*cls.arguments(folder, *more), check=check)

    def copy(self, name, until=12):
        """The straight run as it was after its checkpoint of step `until`."""
        folder = self.base / name
        shutil.copytree(self.straight, folder, symlinks=True)
        for step in (4, 8, 12):
            if step > until and (folder / f"step-{step}").exists():
                shutil.rmtree(folder / f"step-{step}")
        (folder / "latest").unlink()
        os.symlink(f"step-{until}", folder / "latest")
        return folder

    def assert_same_run(self, folder):
        self.assertEqual(log_without_times(self.straight / "log.jsonl"), log_without_times(folder / "log.jsonl"))
        for name in ("model.safetensors", "optimizer-00001-of-00001.safetensors", "config.json"):
            self.assertEqual((self.straight / "latest" / name).read_bytes(), (folder / "latest" / name).read_bytes(), name)

    def assert_refused(self, result, *parts, status=1):
        self.assertEqual(result.returncode, status, result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)
        self.assertEqual(result.stderr.count("error:"), 1, result.stderr)

    def signalled(self, number, line, folder, *more, ignored=()):
        return signalled(number, self.arguments(folder, *more), folder / "log.jsonl", line, ignored=ignored)

    def test_a_terminal_that_goes_away_is_a_signal_and_nohup_is_honoured(self):
        folder = self.base / "hangup"
        self.assertEqual(self.signalled(signal.SIGHUP, 5, folder).returncode, 128 + signal.SIGHUP)
        self.assertEqual(os.readlink(folder / "latest"), "step-5")
        self.train(folder, "--resume")
        self.assert_same_run(folder)
        folder = self.base / "nohup"
        self.assertEqual(self.signalled(signal.SIGHUP, 5, folder, ignored=[signal.SIGHUP]).returncode, 0)
        self.assert_same_run(folder)

    def test_a_copy_by_content_goes_on(self):
        folder = self.copy("copied", until=8)
        (folder / "latest").unlink()
        shutil.copytree(folder / "step-8", folder / "latest")
        said = self.train(folder, "--resume").stderr
        self.assertIn("step-8 at step 8", said)
        self.assertTrue((folder / "latest").is_symlink())
        self.assert_same_run(folder)

    def test_a_checkpoint_alone_goes_on_with_a_log_of_its_own(self):
        folder = self.base / "alone"
        folder.mkdir()
        shutil.copytree(self.straight / "step-8", folder / "step-8")
        said = self.train(folder, "--resume").stderr
        self.assertIn("some lines are missing", said)
        self.assertEqual(log_without_times(folder / "log.jsonl"), log_without_times(self.straight / "log.jsonl")[8:])
        self.assertNotIn(b"\0", (folder / "log.jsonl").read_bytes())

    def test_a_damaged_newest_checkpoint_is_passed_over(self):
        folder = self.copy("damaged")
        with open(folder / "step-12" / "model.safetensors", "r+b") as file:
            file.truncate(1000)
        said = self.train(folder, "--resume").stderr
        self.assertIn("step-12/model.safetensors", said)
        self.assertIn("step-8 at step 8", said)
        self.assert_same_run(folder)

    def test_files_of_the_newest_checkpoint_that_are_empty_or_gone_are_damage(self):
        for name, content in (("run.toml", ""), ("run.toml", "[run]\n"), ("tokenizer_config.json", ""),
                              ("tokenizer_config.json", None)):
            folder = self.copy(f"lacks-{name}-{content is None}-{len(content or '')}")
            (folder / "step-12" / name).unlink()
            if content is not None:
                (folder / "step-12" / name).write_text(content)
            said = self.train(folder, "--resume").stderr
            self.assertIn(f"step-12/{name}", said)
            self.assertIn("step-8 at step 8", said)
            self.assert_same_run(folder)

    def test_tokens_that_are_not_those_of_the_dataset_are_refused(self):
        folder, changed = self.copy("changed-tokens", until=8), self.base / "changed-dataset"
        shutil.copytree(self.base / "dataset", changed)
        shard = next(changed.glob("*.bin"))
        content = bytearray(shard.read_bytes())
        content[100:102] = bytes([1 - min(content[100], 1), 0])
        shard.write_bytes(content)
        before = (folder / "log.jsonl").read_bytes()
        for more in (["--resume"], ["--set", f"run.dir={self.base / 'fresh'}"]):
            self.assert_refused(self.train(folder, *more, "--set", f"data.train={changed}", check=False), str(changed),
                                "its tokens are not those")
        self.assert_refused(self.train(folder, "--resume", "--set", f"data.valid={changed}", check=False), str(changed))
        self.assertEqual((folder / "log.jsonl").read_bytes(), before)

    def test_fewer_steps_than_are_done_are_refused(self):
        folder = self.copy("fewer-steps")
        before = (folder / "run.toml").read_bytes()
        self.assert_refused(self.train(folder, "--resume", "--set", "train.steps=5", check=False), "12", "5", "train.steps")
        self.assertEqual((folder / "run.toml").read_bytes(), before)


    def test_what_changes_the_run_is_refused_by_name_with_both_values(self):
        folder = self.copy("other")
        before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        for key, kept, other in (("model.num_attention_heads", "2", "1"), ("model.rope_theta", "10000", "500"),
                                 ("model.norm_topk_prob", "false", "true"), ("model.rms_norm_eps", "1e-06", "1e-05"),
                                 ("model.num_experts_per_tok", "2", "3"), ("model.n_routed_experts", "6", "8"),
                                 ("model.hidden_size", "24", "32"), ("model.scoring_func", "softmax", "sigmoid"),
                                 ("model.max_position_embeddings", "64", "128"), ("balance.alpha_expert", "0.01", "0.5"),
                                 ("balance.z_loss", "0", "0.1"), ("balance.scope", "sequence", "step"),
                                 ("optimizer.learning_rate", "0.003", "0.1"), ("optimizer.beta2", "0.95", "0.9"),
                                 ("optimizer.weight_decay", "0.1", "0"), ("optimizer.clip", "1", "0"),
                                 ("optimizer.eps", "1e-08", "1e-07"), ("schedule.kind", "constant", "cosine"),
                                 ("schedule.warmup_steps", "2", "3"), ("train.steps", "12", "24"), ("train.seed", "1", "5"),
                                 ("train.dtype", "f32", "bf16"), ("train.freeze", "[]", '["embed"]'), ("train.init_std", "0.02", "0.03"),
                                 ("data.sequence_length", "32", "16"), ("data.rows_per_step", "4", "8"),
                                 ("data.microbatch_rows", "2", "4")):
            refused = self.train(folder, "--resume", "--set", f"{key}={other}", check=False)
            self.assert_refused(refused, key, kept, other, "--allow-change")
            self.assertEqual({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}, before, key)
        for more in ([], ["--allow-change", "optimizer.kind"]):  # nothing allows it, so nothing advises to allow it
            refused = self.train(folder, "--resume", "--set", "optimizer.kind=muon", *more, check=False)
            self.assert_refused(refused, 'optimizer.kind = "adamw"', "muon", "cannot continue", "run.dir")
            self.assertNotIn("--allow-change", refused.stderr)
            self.assertEqual({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}, before)

    def test_what_does_not_change_the_run_is_free(self):
        folder = self.copy("free", until=8)
        self.train(folder, "--resume", "--set", "train.recompute=true", "--set", "checkpoint.every=3", "--set",
                   "sample.max_new_tokens=3", "--set", f"data.valid={self.base}/dataset", "--set", "eval.every=5")
        self.assert_same_run(folder)

    def test_another_dataset_is_refused_and_the_same_content_elsewhere_is_not(self):
        moved = self.base / "moved"
        shutil.copytree(self.base / "dataset", moved)
        folder = self.copy("same-content", until=8)
        self.train(folder, "--resume", "--set", f"data.train={moved}")
        self.assert_same_run(folder)
        text = (self.base / "headers.jsonl").read_text().splitlines()
        (self.base / "fewer.jsonl").write_text("\n".join(text[:-1]) + "\n")
        moe("data", "--tokenizer", self.base / "tokenizer", "--out", self.base / "fewer", self.base / "fewer.jsonl")
        folder = self.copy("other-content", until=8)
        other = ["--resume", "--set", f"data.train={self.base}/fewer"]
        self.assert_refused(self.train(folder, *other, check=False), "data.train", "fingerprint", "--allow-change")
        said = self.train(folder, *other, "--allow-change", "data.train").stderr
        self.assertIn("changed from step 9 on: data.train", said)

    def test_a_change_is_allowed_where_it_is_named_twice_and_is_noted(self):
        folder = self.copy("allowed")
        longer = ["--resume", "--set", "train.steps=20"]
        self.assert_refused(self.train(folder, *longer, check=False), "train.steps = 12", "train.steps = 20")
        self.assert_refused(self.train(folder, "--resume", "--allow-change", "train.steps", check=False),
                            "--set train.steps=VALUE", status=2)
        self.assert_refused(self.train(folder, "--resume", "--allow-change", "steps", check=False),
                            "did you mean train.steps?", status=2)
        self.assert_refused(self.train(folder, "--set", "train.steps=20", "--allow-change", "train.steps", check=False),
                            "--resume", status=2)
        said = self.train(folder, *longer, "--allow-change", "train.steps").stderr
        self.assertIn("changed from step 13 on: train.steps was 12 and is 20", said)
        note = [json.loads(line) for line in (folder / "changes.jsonl").read_text().splitlines()]
        self.assertEqual(note, [{"step": 12, "key": "train.steps", "from": "12", "to": "20"}])
        lines = log_without_times(folder / "log.jsonl")
        self.assertEqual([line["step"] for line in lines], list(range(1, 21)))
        self.assertEqual({line["learning_rate"] for line in lines[2:]}, {3e-3})

    def test_another_length_in_epochs_or_hours_is_allowed_by_name(self):
        for key, value in (("train.epochs", "3"), ("train.hours", "1e-9")):
            folder = self.copy(f"length-{key}", until=8)
            other = ["--resume", "--set", f"{key}={value}"]
            if key == "train.epochs":
                self.assert_refused(self.train(folder, *other, check=False), "train.steps = 12", "--allow-change")
            self.assert_refused(self.train(folder, "--resume", "--allow-change", key, check=False), f"--set {key}=VALUE",
                                status=2)
            allowed = self.train(folder, *other, "--allow-change", key, check=False)
            if key == "train.hours":  # less than the steps that are done
                self.assert_refused(allowed, "has done 8 steps, but train.steps is 1")
                continue
            self.assertEqual(allowed.returncode, 0, allowed.stderr)
            self.assertIn("changed from step 9 on: train.steps was 12 and is ", allowed.stderr)
            steps = int(allowed.stderr.split("changed from step 9 on: train.steps was 12 and is ")[1].split()[0])
            self.assertGreater(steps, 12)
            self.assertEqual(os.readlink(folder / "latest"), f"step-{steps}")

    def test_a_changed_byte_of_the_weights_is_noticed_by_every_reader(self):
        folder = self.copy("changed-byte")
        path = folder / "step-12" / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)
        text = self.base / "headers.jsonl"
        for arguments in (["generate", folder, "--prompt", "class", "--max-new-tokens", 1], ["eval", "loss", folder, text],
                          ["logits", folder, "--tokens", "1,2", "--out", self.base / "changed-logits"],
                          ["convert", folder, self.base / "changed-model"]):
            self.assert_refused(moe(*arguments, check=False), "model.safetensors is damaged", "checksums.json")
        self.assertEqual(sorted(self.base.glob("changed-[lm]*")), [])
        said = self.train(folder, "--resume").stderr
        self.assertIn("step-12/model.safetensors is damaged", said)
        self.assertIn("step-8 at step 8", said)
        self.assert_same_run(folder)

    def test_a_key_that_is_set_twice_counts_once_and_is_said(self):
        said = self.train(self.base / "twice", "--dry-run", "--set", "train.steps=3", "--set", "train.steps=5",
                          "--set", "train.seed=1", "--set", "train.seed=1").stderr
        self.assertEqual(said.count("takes the place of"), 1, said)
        self.assertIn("--set train.steps=5 takes the place of --set train.steps=3", said)

    def test_what_follows_from_other_keys_stays_as_it_was(self):
        run = self.base / "derived.toml"
        run.write_text((self.base / "run.toml").read_text().replace("warmup_steps = 2", "warmup_fraction = 0.5"))
        folder = self.base / "derived"
        moe("train", run, "--set", f"run.dir={folder}")
        self.assertIn("warmup_steps = 6\n", (folder / "run.toml").read_text())
        moe("train", run, "--set", f"run.dir={folder}", "--resume", "--set", "train.steps=20", "--allow-change", "train.steps")
        self.assertIn("warmup_steps = 6\n", (folder / "run.toml").read_text())


if __name__ == "__main__":
    unittest.main(verbosity=2)
