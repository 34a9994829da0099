"""moe eval loss and moe bench as a user types them.

Usage: eval_test.py PATH_OF_MOE
"""

import json
import math
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from support import MOE, ROOT, make_dataset, moe

RUN_FILE = """
[run]
dir = "{folder}/run"
[data]
train = "{folder}/dataset"
valid = "{folder}/dataset"
sequence_length = 32
rows_per_step = 4
[model]
hidden_size = 24
num_hidden_layers = 3
num_attention_heads = 2
n_shared_experts = 1
n_routed_experts = 6
num_experts_per_tok = 2
moe_intermediate_size = 16
first_k_dense_replace = 1
intermediate_size = 32
max_position_embeddings = 64
[train]
steps = 12
[optimizer]
learning_rate = 3e-3
"""


class EvalTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-eval-test-"))
        cls.texts = {
            "headers": [path.read_text()[:1500] for path in sorted((ROOT / "src/base").glob("*.h"))],
            "python": [path.read_text()[:1500] for path in sorted((ROOT / "tools").glob("*.py"))],
        }
        cls.files = make_dataset(cls.base, cls.texts, vocab_size=350)
        (cls.base / "run.toml").write_text(RUN_FILE.format(folder=cls.base))
        moe("train", cls.base / "run.toml")
        cls.model = cls.base / "run" / "latest"

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def scores(self, *arguments):
        out = self.base / "scores.json"
        result = moe("eval", "loss", self.model, *arguments, "--json", out)
        return json.loads(out.read_text()), result.stdout

    def test_scores_do_not_depend_on_batch_rows_or_threads(self):
        one, _ = self.scores(*self.files, "--batch-rows", 1, "--threads", 1)
        for rows in (2, 8):
            self.assertEqual(self.scores(*self.files, "--batch-rows", rows, "--threads", 2)[0], one)

    def test_scores_equal_the_training_runs_own_evaluation(self):
        scores, _ = self.scores(*self.files, "--sequence-length", 32)
        last = json.loads((self.base / "run" / "eval.jsonl").read_text().splitlines()[-1])
        self.assertEqual(last["step"], 12)
        self.assertEqual(scores["all"]["loss"], last["loss"])
        for domain in self.texts:
            self.assertEqual(scores["domains"][domain]["loss"], last["domains"][domain]["loss"])

    def test_bits_per_byte_cover_every_byte(self):
        scores, table = self.scores(*self.files)
        for domain, texts in self.texts.items():
            score = scores["domains"][domain]
            self.assertEqual(score["documents"], len(texts))
            self.assertEqual(score["bytes"], sum(len(text.encode()) for text in texts))
            self.assertAlmostEqual(score["bits_per_byte"], score["nats"] / math.log(2) / score["bytes"], places=12)
            self.assertGreater(score["bits_per_byte_error"], 0)
            self.assertIn(f"{score['bits_per_byte']:.4f}", table)
        self.assertAlmostEqual(
            scores["all"]["nats"], sum(score["nats"] for score in scores["domains"].values()), places=6
        )

    def test_tokens_are_text_and_eos(self):
        scores, _ = self.scores(self.files[0])
        ids = [
            moe_ids
            for text in self.texts["headers"]
            for moe_ids in subprocess.run(
                [MOE, "tokenizer", "encode", "--no-special", "--tokenizer", self.model],
                input=text, capture_output=True, text=True, check=True,
            ).stdout.split()
        ]
        self.assertEqual(scores["all"]["tokens"], len(ids) + len(self.texts["headers"]))

    def test_routing_has_every_moe_layer_and_domain(self):
        scores, text = self.scores(*self.files)
        routing = scores["routing"]
        self.assertEqual([layer["layer"] for layer in routing["layers"]], [1, 2])
        for layer in routing["layers"]:
            for load in [layer["load"], *layer["domains"].values()]:
                self.assertEqual(len(load), 6)
                self.assertAlmostEqual(sum(load), 1, places=9)
        self.assertEqual(set(routing["top_experts"]), set(self.texts))
        self.assertIn("experts that took a domain", text)

    def test_choices_agree_with_the_load_and_do_not_depend_on_rows_or_threads(self):
        scores, text = self.scores(*self.files, "--analyse", "--top-tokens", 4, "--min-count", 5,
                                   "--batch-rows", 1, "--threads", 1)
        again, _ = self.scores(*self.files, "--analyse", "--top-tokens", 4, "--min-count", 5,
                               "--batch-rows", 5, "--threads", 2)
        self.assertEqual(scores, again)
        choices = scores["choices"]
        documents = sum(score["documents"] for score in scores["domains"].values())
        self.assertEqual(choices["tokens"], scores["all"]["tokens"] + documents)
        self.assertEqual([layer["layer"] for layer in choices["layers"]], [1, 2])
        for layer, routing in zip(choices["layers"], scores["routing"]["layers"]):
            matrix = layer["coactivation"]
            self.assertEqual(matrix, [list(column) for column in zip(*matrix)])
            for expert, row in enumerate(matrix):
                self.assertAlmostEqual(row[expert] / (2 * choices["tokens"]), routing["load"][expert], places=12)
                self.assertEqual(sum(row), 2 * row[expert])  # two experts per token
            pairs = sorted(((matrix[i][j], -i, -j) for i in range(6) for j in range(i + 1, 6)), reverse=True)
            self.assertEqual([(pair["tokens"], *pair["experts"]) for pair in layer["pairs"]],
                             [(count, -i, -j) for count, i, j in pairs[:5] if count > 0])
            self.assertEqual(len(layer["experts"]), 6)
            self.assertTrue(any(layer["experts"]))
            for tokens in layer["experts"]:
                self.assertLessEqual(len(tokens), 4)
                self.assertEqual(tokens, sorted(tokens, key=lambda token: -token["share"]))
                self.assertTrue(all(token["seen"] >= 5 and 0 < token["share"] <= 1 for token in tokens))
        token = next(token for tokens in choices["layers"][0]["experts"] for token in tokens if token["text"].isalpha())
        ids = moe("tokenizer", "encode", "--no-special", "--tokenizer", self.model, input=token["text"]).stdout
        self.assertIn(str(token["id"]), ids)
        pair = choices["layers"][0]["pairs"][0]
        share = 100 * pair["tokens"] / choices["tokens"]
        self.assertIn(f"{pair['experts'][0]}+{pair['experts'][1]} {share:.1f}%", text)
        self.assertIn("tokens that an expert took", text)
        self.assertNotIn("choices", self.scores(*self.files)[0])

    def test_overlap_of_domains(self):
        scores, text = self.scores(*self.files)
        overlap = scores["routing"]["overlap"]
        self.assertEqual(overlap["domains"], list(self.texts))
        for layer in scores["routing"]["layers"]:
            a, b = (layer["domains"][name] for name in overlap["domains"])
            self.assertAlmostEqual(layer["overlap"][0][1], sum(map(min, a, b)), places=12)
        self.assertIn(f"{overlap['mean'][0][1]:.3f}", text)
        alone, text = self.scores(self.files[0])
        self.assertEqual(len(alone["routing"]["overlap"]["mean"]), 1)
        self.assertNotIn("overlap", text)

    def test_a_sweep_is_what_its_switches_give_one_by_one(self):
        plain, _ = self.scores(*self.files)
        sweep, text = self.scores(*self.files, "--sweep", "experts-per-token=1,2", "--sweep", "mask-best=1",
                                  "--sweep", "drop-shared")
        points = sweep.pop("sweep")
        self.assertEqual(sweep, plain)
        self.assertEqual([(point["switch"], point["value"]) for point in points],
                         [("experts-per-token", 1), ("experts-per-token", 2), ("mask-best", 1), ("drop-shared", None)])
        self.assertEqual(points[1]["all"], plain["all"])
        for point in points:
            value = [] if point["value"] is None else [point["value"]]
            single, _ = self.scores(*self.files, f"--{point['switch']}", *value)
            self.assertEqual(point["all"], single["all"])
            self.assertEqual(point["domains"], single["domains"])
            self.assertAlmostEqual(point["loss_change"], point["all"]["loss"] - plain["all"]["loss"], places=12)
            self.assertIn(f"{point['loss_change']:+.4f}", text)
            self.assertIn(f"{point['all']['bits_per_byte']:.4f}", text)

    def test_json_to_stdout_is_all_of_it(self):
        result = moe("eval", "loss", self.model, "--domain", f"mine={self.files[0]}", "--json", "-")
        self.assertEqual(list(json.loads(result.stdout)["domains"]), ["mine"])

    def test_bf16_is_close(self):
        f32, _ = self.scores(*self.files)
        bf16, _ = self.scores(*self.files, "--dtype", "bf16")
        self.assertNotEqual(f32["all"]["nats"], bf16["all"]["nats"])
        # bf16 rounds by up to 2^-9, so a token's loss moves by a few thousandths; the mean over 28,000 tokens far less.
        for name, scores in {**f32["domains"], "all": f32["all"]}.items():
            other = bf16["all"] if name == "all" else bf16["domains"][name]
            self.assertAlmostEqual(scores["loss"], other["loss"], delta=1e-3, msg=name)

    def test_mistakes(self):
        def sentence(status, *arguments):
            result = moe("eval", "loss", *arguments, check=False)
            self.assertEqual(result.returncode, status, result.stderr)
            self.assertEqual(result.stdout, "")
            return result.stderr

        self.assertIn("give at least one FILE", sentence(2, self.model))
        self.assertIn("max_position_embeddings 64", sentence(2, self.model, self.files[0], "--sequence-length", 65))
        self.assertIn("config.json", sentence(1, self.base / "dataset", self.files[0]))
        self.assertIn("absent.jsonl", sentence(1, self.model, self.base / "absent.jsonl"))
        self.assertIn("--domain", sentence(2, self.model, "--domain", "x"))
        self.assertIn("--sweep experts=3: expected experts-per-token=N,N,..., mask-best=N,N,... or drop-shared",
                      sentence(2, self.model, self.files[0], "--sweep", "experts=3"))
        self.assertIn("--sweep mask-best=5: 5 best experts to skip and 2 to choose are more than the 6",
                      sentence(1, self.model, self.files[0], "--sweep", "mask-best=4,5"))
        self.assertIn("--top-tokens requires --analyse", sentence(2, self.model, self.files[0], "--top-tokens", 3))
        (self.base / "empty.jsonl").write_text("\n")
        self.assertIn("holds no document", sentence(1, self.model, self.base / "empty.jsonl"))


class SwitchesTest(unittest.TestCase):
    """Switches of routing on a checkpoint of 9 routed experts, 3 of them chosen."""

    def setUp(self):
        self.golden = ROOT / "tests/golden/moe_basic"  # no tokenizer: logits alone

    def test_logits_take_them_and_refuse_what_does_not_fit(self):
        with tempfile.TemporaryDirectory() as folder:
            def logits(*switches, check=True):
                out = pathlib.Path(folder) / "logits.safetensors"
                result = moe("logits", self.golden, "--tokens", "0,5,9,11", "--out", out, *switches, check=check)
                return out.read_bytes() if check else result

            plain = logits()
            self.assertEqual(plain, logits("--experts-per-token", 3, "--mask-best", 0))
            different = [logits("--experts-per-token", 2), logits("--mask-best", 1), logits("--drop-shared"),
                         logits("--mask-experts", "1:0,1,2", "--mask-experts", "2:8"),
                         logits("--boost-experts", "1:0,1=0.5", "--boost-experts", "2:8=-0.1")]
            self.assertEqual(len({plain, *different}), 6)
            self.assertEqual(plain, logits("--boost-experts", "1:0=0"))
            refused = logits("--mask-experts", "1:x", check=False)
            self.assertEqual(refused.returncode, 2)
            self.assertIn("--mask-experts 1:x: expected LAYER:EXPERT", refused.stderr)
            for value in ("1:0", "1:0=", "1:0=x", "1:0=inf", "1:0=nan", "1:0=1001", "1=2", "1:0,=2"):
                refused = logits("--boost-experts", value, check=False)
                self.assertEqual(refused.returncode, 2)
                self.assertIn(f"--boost-experts {value}: expected LAYER:EXPERT", refused.stderr)
            refused = logits("--experts-per-token", 10, check=False)
            self.assertEqual(refused.returncode, 1)
            self.assertIn("--experts-per-token takes 1 to 9", refused.stderr)


class BenchTest(unittest.TestCase):
    SMALL = "--layers 1 --hidden 32 --heads 2 --experts 4 --top-k 2 --width 16 --vocabulary 64 --rows 2 --length 16".split()

    def test_step_measures_what_it_says(self):
        for command in (["bench"], ["bench", "step"]):
            result = json.loads(moe(*command, "--json", *self.SMALL, "--product", 64, "--steps", 2).stdout)
            self.assertEqual(result["steps"], 2)
            self.assertAlmostEqual(result["tokens_per_s"], 32 / result["step_s"], places=3)
            self.assertEqual(result["ops"]["adamw"]["calls"], 12)
            self.assertAlmostEqual(result["loss"], math.log(64), delta=0.1)
            self.assertGreater(result["share_of_product"], 0)
            spent = sum(op["ms"] for op in result["ops"].values()) / 1000
            self.assertGreater(spent, 0)

    def test_machine_measures_products_and_copies(self):
        result = json.loads(moe("bench", "machine", "--json", "--product", 64, "--copy-mib", 1).stdout)
        for key in ("product_f32_gflops", "product_bf16_gflops", "copy_gb_per_s", "read_gb_per_s"):
            self.assertGreater(result[key], 0)
        if result["multiply_add_f32_gflops"] is not None:  # of the processor alone
            self.assertGreater(result["multiply_add_f32_gflops"], 0)

    LAYER = "--hidden 32 --experts 4 --top-k 2 --width 16 --tokens 64 --repeats 3 --device cpu".split()

    def test_layer_measures_what_it_says(self):
        result = json.loads(moe("bench", "layer", "--json", *self.LAYER, "--product", 64).stdout)
        flops = 64 * (18 * 32 * 16 * 3 + 6 * 32 * 4)  # one shared expert and two routed ones, and the router
        self.assertAlmostEqual(result["layer_gflops"], flops / (result["layer_ms"] * 1e6), places=6)
        overhead = (result["layer_ms"] - result["sorted_products_ms"]) / result["layer_ms"]
        self.assertAlmostEqual(result["routing_overhead"], overhead, places=9)
        share = result["layer_gflops"] / result["product_gflops"]
        self.assertAlmostEqual(result["layer_share_of_product"], share, places=9)

    def test_layer_skews_the_load(self):
        def load(skew):
            result = json.loads(moe("bench", "layer", "--json", *self.LAYER, "--product", 0, "--skew", skew).stdout)
            self.assertIsNone(result["layer_share_of_product"])
            return result["load_max_over_mean"]

        self.assertLess(load(0), 1.6)
        self.assertEqual(load(50), 2)  # every token has the first expert: 64 of a mean of 32

    def test_layer_takes_a_run_file_and_refuses_what_cannot_be(self):
        file = ROOT / "configs/demo.toml"
        result = json.loads(moe("bench", "layer", "--json", "--config", file, *self.LAYER[4:], "--product", 0).stdout)
        self.assertEqual((result["hidden"], result["experts"], result["top_k"], result["width"]), (192, 31, 2, 16))
        refused = moe("bench", "layer", "--experts", 4, "--top-k", 5, check=False)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("--top-k 5: there are 4 routed experts (--experts), expected 1 to 4", refused.stderr)

    def test_generate_measures_what_it_says(self):
        sizes = "--layers 1 --hidden 32 --heads 2 --experts 4 --top-k 2 --width 16 --vocabulary 64".split()
        for dtype, size in (("f32", 4), ("bf16", 2)):
            result = json.loads(moe("bench", "generate", "--json", *sizes, "--prompt", 12, "--tokens", 8, "--repeats", 1,
                                    "--product", 64, "--dtype", dtype).stdout)
            # Attention, head, router and three experts; three norms and a row of the embedding; 16 keys and values.
            weights = 4 * 32 * 32 + 64 * 32 + 4 * 32 + 3 * 3 * 16 * 32 + 3 * 32 + 32
            self.assertEqual(result["mib_per_token"] * 2**20, size * (weights + 2 * 16 * 32))
            self.assertAlmostEqual(result["share_of_reading"], result["gb_per_s"] / result["read_gb_per_s"], places=6)
            products = 12 * (4 * 32 * 32 + 4 * 32 + 3 * 3 * 16 * 32) + 64 * 32 + 12 * 13 * 32 / 2 * 2
            self.assertAlmostEqual(result["prompt_gflops"],
                                   2e-9 * products / 12 * result["prompt_tokens_per_s"], places=6)
            self.assertAlmostEqual(result["prompt_share_of_product"],
                                   result["prompt_gflops"] / result["product_gflops"], places=6)

    def test_steps_of_batches_are_measured_at_each_context(self):
        sizes = "--layers 1 --hidden 32 --heads 2 --experts 4 --top-k 2 --width 16 --vocabulary 64".split()
        for dtype, size in (("f32", 4), ("bf16", 2)):
            result = json.loads(moe("bench", "generate", "--json", *sizes, "--batch", "1,3", "--context", "5,70", "--tokens",
                                    4, "--repeats", 2, "--dtype", dtype, "--device", "cpu").stdout)
            self.assertEqual([(row["batch"], row["context"]) for row in result["rows"]], [(1, 5), (3, 5), (1, 70), (3, 70)])
            for row in result["rows"]:
                batch, distinct = row["batch"], row["distinct_experts"]
                self.assertEqual(distinct, int(distinct))
                self.assertTrue(2 <= distinct <= min(4, 2 * batch), row)
                # Attention, head, shared expert, router, norms, rows of the embedding; chosen experts; keys and values at
                # the mean of the timed positions, after three steps that are not timed.
                weights = 4 * 32 * 32 + 64 * 32 + 3 * 16 * 32 + 4 * 32 + 3 * 32 + 32 * batch + 3 * 16 * 32 * distinct
                cache = batch * 2 * 32 * (row["context"] + 3 + 4)
                self.assertAlmostEqual(1e9 * row["gb"], size * (weights + cache), places=3)
                self.assertAlmostEqual(row["tokens_per_s"], 1000 * batch / row["ms"], places=3)
                self.assertAlmostEqual(row["share_of_floor"], row["floor_ms"] / row["ms"], places=6)
        text = moe("bench", "generate", *sizes, "--batch", 2, "--tokens", 2, "--repeats", 1, "--device", "cpu").stdout
        self.assertRegex(text, r"(?m)^ +2 +512 +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+% +[\d.]+ +-$")
        refused = moe("bench", "generate", *sizes, "--batch", "1,,2", check=False)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("--batch 1,,2: expected whole numbers from 1 to", refused.stderr)

    def test_run_files_of_other_methods_are_measured_or_refused(self):
        file = """
[data]
sequence_length = 16
rows_per_step = 2
[train]
steps = 100
[model]
method = "{}"
vocab_size = 64
hidden_size = 32
num_hidden_layers = 1
num_attention_heads = 2
n_routed_experts = 4
num_experts_per_tok = {}
moe_intermediate_size = 16
"""
        small = "--repeats 1 --product 0 --prompt 4 --tokens 2 --device cpu".split()
        with tempfile.TemporaryDirectory() as folder:
            for method, top_k in (("hash", 1), ("noisy_topk", 2), ("stable_moe", 1), ("expert_choice", 2), ("mixtral", 2)):
                run = pathlib.Path(folder) / "run.toml"
                run.write_text(file.format(method, top_k))
                layer = moe("bench", "layer", "--config", run, "--tokens", 32, "--repeats", 1, "--product", 0, check=False)
                self.assertEqual(layer.returncode, 0 if method == "mixtral" else 2, layer.stderr)
                if method != "mixtral":
                    self.assertIn("expected topk", layer.stderr)
                generate = moe("bench", "generate", "--config", run, *small, check=False)
                self.assertEqual(generate.returncode, 1 if method == "expert_choice" else 0, generate.stderr)
                step = moe("bench", "step", "--json", "--config", run, "--rows", 2, "--steps", 1, "--product", 0)
                self.assertEqual("second stage" in step.stderr, method == "stable_moe")
                # What is timed are the run file's losses.
                self.assertEqual("variation_loss" in json.loads(step.stdout)["ops"], method == "noisy_topk")
                self.assertEqual("balance_loss" in json.loads(step.stdout)["ops"], method == "mixtral")

    def test_tokenizer_measures_what_it_says(self):
        with tempfile.TemporaryDirectory() as folder:
            text = pathlib.Path(folder) / "text.jsonl"
            documents = [f"The {i}th document of {i * i} words." for i in range(400)]
            text.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
            moe("tokenizer", "train", "--vocab-size", 285, "--out", pathlib.Path(folder) / "tokenizer", text)
            command = ["bench", "tokenizer", "--json", "--repeats", 1, "--threads", 2, text]
            result = json.loads(moe(*command, "--tokenizer", pathlib.Path(folder) / "tokenizer", "--vocab-size", 285).stdout)
            size = sum(map(len, documents))
            self.assertEqual((result["encoding"]["documents"], result["encoding"]["bytes"]), (400, size))
            ids = moe("tokenizer", "encode", "--no-special", "--lines", "--tokenizer", pathlib.Path(folder) / "tokenizer",
                      input="\n".join(documents)).stdout
            self.assertEqual(result["encoding"]["tokens"], sum(len(json.loads(line)) for line in ids.splitlines()))
            self.assertEqual((result["training"]["bytes"], result["training"]["tokens"]), (size, 285))
            refused = moe(*command, check=False)
            self.assertEqual(refused.returncode, 2)
            self.assertIn("give --tokenizer to measure encoding", refused.stderr)

    def test_what_does_not_fit_is_refused(self):
        result = moe("bench", "--rows", 4000, "--product", 0, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("what fits is --rows ", result.stderr)


if __name__ == "__main__":
    unittest.main()
