"""The program on a GPU: the same results as on the CPU, resuming bit for bit, checkpoints that cross devices.

Usage: cuda_test.py PATH_OF_MOE; ends with status 77 (skipped) where there is no GPU.
"""

import json
import pathlib
import shutil
import struct
import sys
import tempfile
import unittest

from support import ROOT, log_without_times, make_dataset, moe

SKIPPED = 77

RUN_FILE = """
[run]
dir = "{folder}/run"
[data]
train = "{folder}/dataset"
valid = "{folder}/dataset"
sequence_length = 64
rows_per_step = 4
microbatch_rows = 2
[model]
hidden_size = 64
num_hidden_layers = 2
num_attention_heads = 2
n_shared_experts = 1
n_routed_experts = 6
num_experts_per_tok = 2
moe_intermediate_size = 32
max_position_embeddings = 128
[train]
steps = 12
[optimizer]
learning_rate = 3e-3
[eval]
every = 6
[checkpoint]
every = 6
keep_last = 9
"""


class CudaTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-cuda-test-"))
        make_dataset(cls.base, {"headers": [path.read_text() for path in sorted((ROOT / "src").rglob("*.h"))[:12]]})
        (cls.base / "run.toml").write_text(RUN_FILE.format(folder=cls.base))
        cls.runs = {(device, dtype): cls.train(device, dtype) for device in ("cpu", "cuda") for dtype in ("f32", "bf16")}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    @classmethod
    def train(cls, device, dtype, *more, name=None):
        folder = cls.base / (name or f"{device}-{dtype}")
        moe("train", cls.base / "run.toml", "--device", device, "--set", f"run.dir={folder}",
            "--set", f"train.dtype={dtype}", *more)
        return folder

    def losses(self, folder):
        return [line["loss"] for line in log_without_times(folder / "log.jsonl")]

    def test_losses_are_those_of_the_cpu(self):
        for dtype, tolerance in (("f32", 2e-4), ("bf16", 2e-2)):
            cpu, cuda = (self.losses(self.runs[device, dtype]) for device in ("cpu", "cuda"))
            self.assertEqual(len(cuda), 12)
            for a, b in zip(cpu, cuda):
                self.assertAlmostEqual(a, b, delta=tolerance * a)

    def resume(self, source, device, dtype, name):
        folder = self.base / name
        folder.mkdir()
        shutil.copytree(source / "step-6", folder / "step-6")
        (folder / "latest").symlink_to("step-6")
        for log in ("log.jsonl", "eval.jsonl"):
            shutil.copy(source / log, folder / log)
        return self.train(device, dtype, "--resume", name=name)

    def test_resuming_gives_the_same_bits(self):
        for dtype in ("f32", "bf16"):
            straight = self.runs["cuda", dtype]
            resumed = self.resume(straight, "cuda", dtype, f"resumed-{dtype}")
            self.assertEqual(log_without_times(straight / "log.jsonl"), log_without_times(resumed / "log.jsonl"))
            for name in ("model.safetensors", "optimizer-00001-of-00001.safetensors"):
                self.assertEqual((straight / "latest" / name).read_bytes(), (resumed / "latest" / name).read_bytes())

    def test_a_checkpoint_of_one_device_resumes_on_the_other(self):
        for first, second in (("cpu", "cuda"), ("cuda", "cpu")):
            resumed = self.resume(self.runs[first, "bf16"], second, "bf16", f"{first}-to-{second}")
            expected = self.losses(self.runs[first, "bf16"])
            for a, b in zip(expected, self.losses(resumed)):
                self.assertAlmostEqual(a, b, delta=2e-2 * a)

    def logits(self, device, dtype="f32"):
        path = self.base / f"logits-{device}-{dtype}.safetensors"
        moe("logits", ROOT / "tests/golden/moe_basic", "--tokens", "1,5,2,9,3,3,7", "--out", path, "--device", device,
            "--dtype", dtype)
        data = path.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        return struct.unpack(f"<{(len(data) - 8 - size) // 4}f", data[8 + size :])

    def test_logits_are_those_of_the_cpu(self):
        cpu, cuda = self.logits("cpu"), self.logits("cuda")
        self.assertLess(max(abs(a - b) for a, b in zip(cpu, cuda)), 5e-5 * max(map(abs, cpu)))

    def test_evaluation_and_generation_run_on_either(self):
        model = self.runs["cuda", "f32"] / "latest"
        found = {}
        for device in ("cpu", "cuda"):
            scores = moe("eval", "loss", model, self.base / "headers.jsonl", "--device", device, "--json", "-").stdout
            text = moe("generate", model, "--prompt", "class ", "--max-new-tokens", "12", "--temperature", "0",
                       "--device", device).stdout
            found[device] = json.loads(scores)["all"]["loss"], text
        self.assertAlmostEqual(found["cpu"][0], found["cuda"][0], delta=1e-4)
        self.assertEqual(found["cpu"][1], found["cuda"][1])

    def test_a_model_that_does_not_fit_is_refused_with_what_would(self):
        result = moe("bench", "--device", "cuda", "--layers", "24", "--rows", "2048", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("training needs", result.stderr)
        self.assertIn("what fits is --rows", result.stderr)


if __name__ == "__main__":
    probe = moe("bench", "machine", "--device", "cuda", "--product", "64", "--copy-mib", "1", check=False)
    if probe.returncode != 0:
        print(f"skipped: {probe.stderr.strip()}")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
