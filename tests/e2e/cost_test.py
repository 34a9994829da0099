"""moe cost as a user types it."""

import json
import re
import resource
import subprocess
import unittest

from support import MOE, ROOT, SANITIZED, moe


def cost(*arguments):
    return json.loads(moe("cost", "--json", *arguments).stdout)


class CostTest(unittest.TestCase):
    def test_a_preset_has_the_papers_cost(self):
        result = cost("--preset", "deepseekmoe-16b")
        self.assertAlmostEqual(result["total_params"] / 16.4e9, 1, delta=0.01)
        self.assertAlmostEqual(result["activated_params"] / 2.8e9, 1, delta=0.01)
        self.assertEqual(result["total_expert_params"], 27 * 66 * 3 * 2048 * 1408)
        self.assertEqual(result["activated_expert_params"], 27 * 8 * 3 * 2048 * 1408)
        self.assertEqual(result["sequence_length"], 4096)
        self.assertAlmostEqual(result["flops_per_sequence"] / 75.82e12, 1, delta=0.001)
        heads = result["flops_per_sequence"] - result["flops_per_sequence_causal"]
        self.assertEqual(heads, 6 * 28 * 4096 * 4095 * 2048 - 6 * result["router_params"] * 4096)
        cache = result["inference"]["bf16"]
        self.assertEqual(cache["kv_cache_bytes_per_token"], 2 * 28 * 2048 * 2)
        self.assertAlmostEqual(cache["weights_gib"], 2 * (result["total_params"] + result["router_params"]) / 2**30)

    def test_training_memory_is_that_of_the_shapes(self):
        """DeepSeekMoE 2B in bf16, counted here: 9 MoE layers of 1 shared and 63 routed experts, 7 of which a token uses."""
        d, layers, vocabulary, experts, shared, used, width, tokens = 1280, 9, 8192, 63, 1, 7, 864, 2048
        layer = 4 * d * d + 2 * d + experts * d + (experts + shared) * 3 * width * d  # attention, norms, router, experts
        parameters = 2 * vocabulary * d + layers * layer + d
        result = cost("--preset", "deepseekmoe-2b", "--dtype", "bf16", "--recompute", "--device", "cpu")["training"]
        padding = 8e-5  # GiB: 256 bytes a tensor
        self.assertAlmostEqual(result["weights_gib"], 2 * parameters / 2**30, delta=padding)
        self.assertAlmostEqual(result["gradients_gib"], 4 * parameters / 2**30, delta=padding)
        self.assertAlmostEqual(result["optimizer_gib"], 12 * parameters / 2**30, delta=padding)  # master and two moments
        parts = ("weights", "gradients", "optimizer", "activations", "batch")
        self.assertAlmostEqual(result["total_gib"], sum(result[f"{part}_gib"] for part in parts), places=9)
        # Kept through the pass: each layer's input. At once, when a layer is differentiated: its queries, keys, values and
        # attention's output, and the rows of its experts (input, both halves of the first product, what goes into the
        # second), whose gradients take their place. Norms, router and batch add a few percent, logits the most of the rest.
        rows = tokens * (used + shared)
        kept = layers * tokens * d
        once = 4 * tokens * d + tokens * used * d + rows * (2 * width + width)
        least = 2 * (kept + once) / 2**30
        self.assertGreater(result["activations_gib"], least)
        self.assertLess(result["activations_gib"], 1.4 * least)

    def test_training_memory_is_what_train_plans(self):
        result = cost("--config", ROOT / "configs/deepseekmoe-2b.toml", "--recompute", "--device", "cpu")
        plan = moe("train", ROOT / "configs/deepseekmoe-2b.toml", "--dry-run", "--verbose", "--device", "cpu", "--set",
                   "data.microbatch_rows=1", "--set", "train.recompute=true").stdout
        planned = {name: float(size) for name, size in re.findall(r"^  (\w[\w ]*\w) +([\d.]+) GiB$", plan, re.MULTILINE)}
        for part, name in (("weights", "parameters"), ("gradients", "gradients"), ("optimizer", "optimizer state")):
            self.assertAlmostEqual(result["training"][f"{part}_gib"], planned[name], delta=0.005)
        activations = planned["saved activations"] + planned["scratch"]
        self.assertAlmostEqual(result["training"]["activations_gib"], activations, delta=0.01)
        small = cost("--preset", "deepseekmoe-2b", "--rows", 1)["training"]
        large = cost("--preset", "deepseekmoe-2b", "--rows", 4)["training"]
        self.assertGreater(large["activations_gib"], 3 * small["activations_gib"])
        self.assertEqual(large["optimizer_gib"], small["optimizer_gib"])

    def test_a_long_context_costs_what_it_costs(self):
        # More than 64 bits count: what is added from one length to twice of it is attention's alone, four times as much.
        for length in (1_000_000, 50_000_000, 80_000_000):
            one, two = (cost("--preset", "deepseekmoe-145b", "--length", n) for n in (length, 2 * length))
            for key in ("flops_per_sequence", "flops_per_sequence_causal"):
                self.assertGreater(two[key], one[key] * 3.9 - 6 * 25e9 * 2 * length)
                self.assertLess(two[key], one[key] * 4)
            self.assertGreater(two["training"]["activations_gib"], 1.9 * one["training"]["activations_gib"])

    @unittest.skipIf(SANITIZED, "a sanitizer needs more addresses than a limit leaves")
    def test_memory_of_many_tokens_is_planned_without_any(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        arguments = ["cost", "--preset", "deepseekmoe-2b", "--rows", "2048", "--length", "131072", "--json",
                     "--device", "cpu"]
        result = subprocess.run([MOE, *arguments], preexec_fn=limit, capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stderr)
        few = cost("--preset", "deepseekmoe-2b", "--rows", 2, "--length", 131072, "--device", "cpu")["training"]
        many = json.loads(result.stdout)["training"]
        self.assertAlmostEqual(many["activations_gib"] / few["activations_gib"] / 1024, 1, delta=0.05)

    def test_too_many_tokens_are_refused(self):
        most = (1 << 31) - 1
        beyond = moe("cost", "--preset", "deepseekmoe-2b", "--rows", most + 1, check=False)
        self.assertEqual(beyond.returncode, 2)
        self.assertIn(f"expected a whole number from 1 to {most}", beyond.stderr)
        refused = moe("cost", "--preset", "deepseekmoe-2b", "--rows", most, "--length", most, check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("expected at most 2147483647; use fewer rows or shorter sequences", refused.stderr)

    def test_rates_give_the_most_tokens_per_second(self):
        result = cost("--preset", "dense-0.2b", "--product-tflops", 100, "--read-gb-per-s", 1000)
        per_token = result["flops_per_sequence_causal"] / 2048
        self.assertAlmostEqual(result["limits"]["training_tokens_per_s"] / (100e12 / per_token), 1, places=9)
        read = result["inference"]["bf16"]["bytes_read_per_token"]
        self.assertAlmostEqual(result["limits"]["decode_tokens_per_s"] / (1e12 / read), 1, places=9)
        self.assertIsNone(cost("--preset", "dense-0.2b")["limits"])

    def test_the_papers_table(self):
        rows = json.loads(moe("cost", "--paper", "--json").stdout)
        departures = [(row["model"], row["quantity"]) for row in rows if not row["agrees"]]
        self.assertEqual(departures, [("DeepSeekMoE 142B half", "activated")])
        self.assertIn("DIFFERS", moe("cost", "--paper").stdout)

    def test_starts_without_the_libraries_of_a_gpu(self):
        # The loader lists what the program is linked to, and does not start it.
        linked = subprocess.run([MOE], env={"LD_TRACE_LOADED_OBJECTS": "1"}, capture_output=True, text=True).stdout
        self.assertIn("libc.so", linked)
        self.assertNotIn("cublas", linked)

    def test_one_model_at_a_time(self):
        refused = moe("cost", "--preset", "dense-0.2b", "--config", ROOT / "configs/demo.toml", check=False)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("give one of --preset, --config, MODEL_DIR and --paper", refused.stderr)
        refused = moe("cost", "--paper", "--preset", "dense-0.2b", check=False)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("leave out --preset", refused.stderr)

    def test_small_models_have_units_that_fit(self):
        small = ["--config", ROOT / "configs/demo.toml"]
        parameters = cost(*small)["total_params"]
        self.assertLess(parameters, 10**9)
        text = moe("cost", *small).stdout
        self.assertIn(f"parameters   {parameters / 1e6:.2f}M", text)
        self.assertNotRegex(text, r"\b0\.0+ ?(B|GiB|TFLOP)\b")


if __name__ == "__main__":
    unittest.main()
