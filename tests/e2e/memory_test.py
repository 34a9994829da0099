"""The memory of a whole `moe train`, as the system counts it, beside what it plans before the first step."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from support import MOE, SANITIZED, make_dataset, moe

MIB = 1 << 20

RUN = """
[data]
sequence_length = 256
rows_per_step = 4
microbatch_rows = 2
[model]
hidden_size = 256
num_hidden_layers = 4
num_attention_heads = 4
n_shared_experts = 1
n_routed_experts = 12
num_experts_per_tok = 3
moe_intermediate_size = 256
max_position_embeddings = 512
[train]
steps = 1
init_std = 0.02
[eval]
every_nth = 4
[sample]
prompts = ["a line of text", "another one"]
"""


@unittest.skipIf(SANITIZED, "a sanitizer needs more memory than the plan of the program itself")
class MemoryTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-memory-test-"))
        words = "river stone green walks under the old bridge and sings of water".split()
        # Longer than a row, so that rows are full: padding is computed by no expert, and takes no memory there.
        texts = [" ".join(words[(i * k * k + k) % 11] for k in range(1600)) for i in range(14)]
        make_dataset(cls.base, {"lines": texts})
        (cls.base / "run.toml").write_text(RUN)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def peaks(self, *settings):
        """Bytes at the peak of a run with these settings, as the system counts them and as planned; of the plan, those of the
        workspace."""
        folder = self.base / "run"
        shutil.rmtree(folder, ignore_errors=True)
        dataset = self.base / "dataset"
        arguments = [MOE, "train", self.base / "run.toml", "--verbose", "--device", "cpu", "--threads", "2"]
        for setting in (f"run.dir={folder}", f"data.train={dataset}", f"data.valid={dataset}", *settings):
            arguments += ["--set", setting]
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            text = said.read()
        self.assertEqual(process.returncode, 0, text)
        self.assertEqual(len((folder / "eval.jsonl").read_text().splitlines()), 1)
        self.assertTrue((folder / "latest" / "model.safetensors").exists())
        planned, workspace = (float(re.search(name + r" +([\d.]+) MiB", text).group(1)) * MIB
                              for name in ("at the peak", "workspace"))
        return used.ru_maxrss * 1024, planned, workspace

    def compare(self, *settings):
        """Not more than planned, and hardly less: a plan that is too large refuses runs that fit. The workspace is what the
        largest operations use; small ones touch little of it. The other 4% are what the plan counts of the program (8 MiB) beyond what this one reads,
        and copies that are not made at the peak."""
        used, planned, workspace = self.peaks(*settings)
        self.assertLess(used, planned, settings)
        self.assertGreater(used, 0.96 * (planned - workspace), settings)

    def test_steps(self):
        self.compare("train.recompute=false")

    def test_recompute(self):
        self.compare("train.recompute=true", "data.microbatch_rows=4")

    def test_bf16(self):
        self.compare("train.dtype=bf16", "data.microbatch_rows=4")

    def test_many_rows_in_an_evaluation(self):
        self.compare("eval.batch_rows=64", "eval.every_nth=1", "data.microbatch_rows=1")

    def test_a_large_vocabulary(self):
        self.compare("model.vocab_size=30000", "data.microbatch_rows=2", "train.recompute=true")

    def test_auto_is_settled_once_and_kept(self):
        folder = self.base / "auto"
        small = ("model.hidden_size=32", "model.num_hidden_layers=1", "model.moe_intermediate_size=16")

        def train(*arguments, check=True):
            settings = (f"run.dir={folder}", f"data.train={self.base}/dataset", "data.microbatch_rows=auto", *small)
            sets = [part for setting in settings for part in ("--set", setting)]
            return moe("train", self.base / "run.toml", "--device", "cpu", *sets, *arguments, check=check)

        def settled():
            text = (folder / "run.toml").read_text()
            self.assertEqual(text, (folder / "latest" / "run.toml").read_text())
            return re.findall(r"^(?:microbatch_rows|recompute|batch_rows) = (.*)$", text, re.MULTILINE)

        train()
        self.assertEqual(settled(), ["4", "4", "false"])
        shutil.rmtree(folder)
        train("--set", "data.microbatch_rows=1", "--set", "train.recompute=true")
        self.assertEqual(settled(), ["1", "1", "true"])
        self.assertIn("in 4 microbatches of 1 row, layers run again in backward", train("--resume").stderr)
        self.assertEqual(settled(), ["1", "1", "true"])
        refused = train("--resume", "--set", "data.microbatch_rows=2", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("data.microbatch_rows = 1, but this run has data.microbatch_rows = 2", refused.stderr)


if __name__ == "__main__":
    unittest.main()
