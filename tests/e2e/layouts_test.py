"""moe cost --ranks as a user types it, and its figures beside a second computation of them.

Usage: layouts_test.py PATH_OF_MOE
"""

import json
import pathlib
import random
import resource
import subprocess
import tempfile
import unittest

from layout_reference import plan, today
from support import MOE, ROOT, SANITIZED, moe

CONFIGURATIONS = 80


def cost(*arguments):
    return json.loads(moe("cost", "--json", *arguments).stdout)["layouts"]


def divisors(number):
    return [one for one in range(1, number + 1) if number % one == 0]


def random_config(draw):
    heads = draw.choice([1, 2, 4, 6])
    moe_model = draw.random() < 0.85
    return {
        "architectures": ["DeepseekForCausalLM"], "model_type": "deepseek", "hidden_act": "silu",
        "vocab_size": draw.randint(3, 5000), "hidden_size": heads * 2 * draw.randint(1, 20),
        "intermediate_size": draw.randint(1, 300), "moe_intermediate_size": draw.randint(1, 100),
        "num_hidden_layers": draw.randint(1, 9), "num_attention_heads": heads,
        "num_key_value_heads": draw.choice(divisors(heads)),
        "n_shared_experts": draw.choice([None, 1, 2]), "n_routed_experts": draw.choice([2, 6, 8, 16]) if moe_model else None,
        "num_experts_per_tok": draw.choice([1, 2]) if moe_model else None, "moe_layer_freq": draw.choice([1, 1, 2]),
        "first_k_dense_replace": draw.choice([0, 0, 1, 2]), "norm_topk_prob": False, "scoring_func": "softmax",
        "aux_loss_alpha": 0.001, "seq_aux": True, "max_position_embeddings": draw.choice([8, 64]),
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "attention_bias": False,
        "tie_word_embeddings": draw.random() < 0.2, "torch_dtype": "float32",
    }


class LayoutsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="moe-layouts-test-")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def assert_same(self, planned, expected):
        for key, value in expected.items():
            if isinstance(value, dict):
                self.assert_same({name: planned[key][name] for name in value}, value)
            else:
                self.assertAlmostEqual(planned[key], value, delta=1e-12 * abs(value), msg=key)

    def test_figures_are_those_of_a_second_computation(self):
        draw = random.Random(26)
        layouts, tied = set(), 0
        for number in range(CONFIGURATIONS):
            config = random_config(draw)
            folder = pathlib.Path(self.folder.name) / str(number)
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps(config))
            has_experts = any(layer >= config["first_k_dense_replace"] and layer % config["moe_layer_freq"] == 0
                              for layer in range(config["num_hidden_layers"])) and config["n_routed_experts"]
            dp = draw.randint(1, 5)
            ep = draw.choice(divisors(config["n_routed_experts"])) if has_experts else 1
            pp = draw.randint(1, config["num_hidden_layers"])
            rows, microbatches, zero = draw.randint(1, 3), draw.randint(1, 6), draw.choice([1, 1, 2, 3])
            dtype, recompute = draw.choice(["bf16", "f32"]), draw.random() < 0.5
            step_rows = dp * ep * rows * microbatches
            with self.subTest(number=number, dp=dp, ep=ep, pp=pp, zero=zero):
                found = cost(folder, "--ranks", dp * ep * pp, "--layout", f"dp={dp},ep={ep},pp={pp}", "--rows", rows,
                             "--step-rows", step_rows, "--dtype", dtype, "--zero", zero, "--device", "cpu",
                             *(["--recompute"] if recompute else []))["plans"]
                self.assertEqual(len(found), 1)
                expected = plan(config, dp, ep, pp, 2 if dtype == "bf16" else 4, zero, rows,
                                config["max_position_embeddings"], step_rows, found[0]["recompute"])
                self.assertEqual(len(found[0]["ranks"]), len(expected))
                for planned, reference in zip(found[0]["ranks"], expected):
                    self.assert_same(planned, reference)
            layouts.add((dp > 1, ep > 1, pp > 1))
            tied += config["tie_word_embeddings"] and pp > 1
        self.assertEqual(len(layouts), 8)  # every combination was tried
        self.assertGreater(tied, 2)

    def test_16b_on_cards_of_80_gb(self):
        model = ["--preset", "deepseekmoe-16b", "--card", "h100"]
        for zero in (1, 2):
            four = cost(*model, "--ranks", 4, "--zero", zero)
            self.assertFalse(any(one["fits"] for one in four["plans"]), zero)
            self.assertIn("no layout fits", four["reason"])
        four = cost(*model, "--ranks", 4, "--zero", 3)  # docs/parallelism.md: nothing is left
        self.assertGreater(min(one["most_bytes"] for one in four["plans"]), 0.99 * 80e9)
        eight = cost(*model, "--ranks", 8)
        self.assertTrue(eight["plans"][0]["fits"])
        self.assertGreater(eight["plans"][0]["layout"]["ep"], 1)
        alone = next(one for one in eight["plans"] if one["text"] == "dp=8,ep=1,pp=1")
        self.assertFalse(alone["fits"])
        large = cost("--preset", "deepseekmoe-16b", "--card", "h200", "--ranks", 4)
        self.assertTrue(large["plans"][0]["fits"])

    @unittest.skipIf(SANITIZED, "a sanitizer needs more addresses than a limit leaves")
    def test_145b_is_planned_in_little_memory(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        result = subprocess.run([MOE, "cost", "--preset", "deepseekmoe-145b", "--ranks", "32", "--card", "h200", "--json",
                                 "--device", "cpu"], preexec_fn=limit, capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stderr)
        layouts = json.loads(result.stdout)["layouts"]
        self.assertTrue(layouts["plans"][0]["fits"])
        given = ["--preset", "deepseekmoe-145b", "--ranks", 32, "--layout", "ep=4,pp=8", "--card", "h200"]
        whole = json.loads(moe("cost", "--json", *given).stdout)
        paper = whole["layouts"]["plans"][0]
        self.assertEqual([rank["stage"] for rank in paper["ranks"]], [rank // 4 for rank in range(32)])
        self.assertEqual(sum(rank["optimizer_bytes"] for rank in paper["ranks"]),
                         12 * (whole["total_params"] + whole["router_params"]))

    def test_one_rank_sends_nothing(self):
        found = cost("--preset", "deepseekmoe-2b", "--ranks", 1)["plans"]
        self.assertEqual(len(found), 1)
        self.assertEqual(found[0]["most_sent_bytes"], 0)
        self.assertEqual(found[0]["communication_share"], 0)
        self.assertEqual(found[0]["bubble_share"], 0)
        self.assertIsNone(cost("--preset", "deepseekmoe-2b"))

    def test_a_run_file_gives_the_rows_of_a_step(self):
        found = cost("--config", ROOT / "configs/deepseekmoe-2b.toml", "--ranks", 4)
        self.assertEqual(found["rows_per_step"], 2048)
        self.assertEqual(cost("--preset", "deepseekmoe-2b", "--ranks", 4)["rows_per_step"], 128)

    def test_slower_networks_and_smaller_machines_take_more_time(self):
        model = ["--preset", "deepseekmoe-16b", "--ranks", 8, "--layout", "dp=2,ep=4", "--rows", 4, "--recompute"]
        near = cost(*model)["plans"][0]
        apart = cost(*model, "--machine-ranks", 4)["plans"][0]
        slow = cost(*model, "--machine-ranks", 4, "--network-gb-per-s", 5)["plans"][0]
        self.assertLess(near["step_s"], apart["step_s"])
        self.assertLess(apart["step_s"], slow["step_s"])
        self.assertEqual(near["most_sent_bytes"], slow["most_sent_bytes"])
        own = cost(*model, "--card", "mine=1000,1400,3000,320")
        self.assertAlmostEqual(own["plans"][0]["compute_s"] / near["compute_s"], 0.5)
        self.assertEqual(own["card"]["memory_bytes"], 1e12)

    def test_a_dry_run_says_what_each_rank_holds_and_sends(self):
        config = {"vocab_size": 8192, "hidden_size": 1280, "num_hidden_layers": 9, "num_attention_heads": 10,
                  "num_key_value_heads": 10, "n_shared_experts": 1, "n_routed_experts": 63, "moe_intermediate_size": 864,
                  "first_k_dense_replace": 0, "moe_layer_freq": 1, "tie_word_embeddings": False}
        for ranks in (2, 4):
            text = moe("train", ROOT / "configs/deepseekmoe-2b.toml", "--ranks", ranks, "--dry-run", "--device", "cpu",
                       "--set", "data.microbatch_rows=1").stdout
            rows = [line.split() for line in text.partition("\nwire ")[2].splitlines()[2:2 + ranks]]
            expected = today(config, ranks, 2)
            self.assertEqual([row[0] for row in rows], [str(rank) for rank in range(ranks)])
            self.assertEqual([(int(row[1]), int(row[2])) for row in rows], expected)
            self.assertEqual(sum(int(row[4]) for row in rows), sum(int(row[5]) for row in rows))  # what is sent arrives
            memory = text.partition("\nranks ")[2].splitlines()[2:2 + ranks]
            self.assertEqual(len({line.split()[1] for line in memory}), 1, memory)  # all hold the same weights
        one = moe("train", ROOT / "configs/deepseekmoe-2b.toml", "--dry-run", "--device", "cpu").stdout
        self.assertNotIn("\nranks ", one)

    def test_text_names_what_it_proposes(self):
        text = moe("cost", "--preset", "deepseekmoe-16b", "--ranks", 8).stdout
        self.assertRegex(text, r"dp=\d+,ep=\d+,pp=\d+ is predicted to be fastest of \d+ that fit")
        self.assertIn("does not fit\n", text)
        self.assertIn("what each of them sends in a step", text)
        one = moe("cost", "--preset", "deepseekmoe-16b", "--ranks", 8, "--layout", "ep=8").stdout
        self.assertNotIn("predicted to be fastest", one)

    def test_what_cannot_be_is_refused(self):
        def refusal(*arguments):
            result = moe("cost", "--preset", "deepseekmoe-16b", *arguments, check=False)
            self.assertEqual(result.returncode, 2, result.stdout)
            self.assertEqual(result.stdout, "")
            self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
            return result.stderr
        self.assertIn("--layout requires --ranks", refusal("--layout", "dp=2"))
        self.assertIn("from 1 to 4096", refusal("--ranks", 0))
        self.assertIn("leave out --preset, --config, MODEL_DIR and --ranks", refusal("--paper", "--ranks", 4))
        self.assertIn("--zero requires --ranks", refusal("--zero", 2))
        self.assertIn("is of 3 ranks, expected 4", refusal("--ranks", 4, "--layout", "dp=3"))
        self.assertIn("such as dp=2,ep=4,pp=1", refusal("--ranks", 4, "--layout", "tp=4"))
        self.assertIn("a divisor of the 64 routed experts", refusal("--ranks", 3, "--layout", "ep=3"))
        self.assertIn("at most 28 layers", refusal("--ranks", 29, "--layout", "pp=29"))
        self.assertIn("expected a multiple of 8", refusal("--ranks", 8, "--layout", "ep=8", "--step-rows", 12))
        for card in ("h300", "a=1,2,3", "a=1,2,3,x", "a=1,2,3,0", "=1,2,3,4", "a=1,2,3,4,5", "a=1,2,3,inf", "a=nan,2,3,4"):
            self.assertIn("expected h100, h200 or NAME=GB,TFLOPS,READ,LINK", refusal("--ranks", 4, "--card", card))


if __name__ == "__main__":
    unittest.main()
