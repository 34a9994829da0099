"""moe eval loss --documents and moe compare as a user types them.

Usage: compare_test.py PATH_OF_MOE
"""

import json
import math
import pathlib
import shutil
import tempfile
import unittest

from support import ROOT, make_dataset, moe

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
num_hidden_layers = 2
num_attention_heads = 2
n_routed_experts = 6
num_experts_per_tok = 2
moe_intermediate_size = 16
max_position_embeddings = 64
[train]
steps = 12
[optimizer]
learning_rate = 3e-3
"""


class CompareTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-compare-test-"))
        cls.texts = {
            "headers": [path.read_text()[:900] for path in sorted((ROOT / "src/base").glob("*.h"))],
            "python": [path.read_text()[:900] for path in sorted((ROOT / "tools").glob("*.py"))],
        }
        cls.files = make_dataset(cls.base, cls.texts, vocab_size=350)
        (cls.base / "run.toml").write_text(RUN_FILE.format(folder=cls.base))
        moe("train", cls.base / "run.toml")
        moe("train", cls.base / "run.toml", "--set", f"run.dir={cls.base}/longer", "--set", "train.steps=40")
        cls.a, cls.b = cls.base / "run", cls.base / "longer"

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def documents(self, model, *more):
        out = self.base / f"{model.name}.jsonl"
        moe("eval", "loss", model, *self.files, "--documents", out, *more)
        return [json.loads(line) for line in out.read_text().splitlines()]

    def comparison(self, *arguments):
        return json.loads(moe("compare", *arguments, "--json", "-").stdout)

    def assert_refused(self, status, part, *arguments):
        result = moe(*arguments, check=False)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stderr.count("error:"), 1, result.stderr)
        self.assertIn(part, result.stderr)

    def test_documents_add_up_to_the_loss(self):
        documents = self.documents(self.a)
        scores = json.loads(moe("eval", "loss", self.a, *self.files, "--json", "-").stdout)
        self.assertEqual([line["index"] for line in documents], list(range(sum(map(len, self.texts.values())))))
        for name, score in scores["domains"].items():
            own = [line for line in documents if line["domain"] == name]
            self.assertEqual(len(own), len(self.texts[name]))
            for key in ("tokens", "bytes"):
                self.assertEqual(sum(line[key] for line in own), score[key])
            self.assertAlmostEqual(sum(line["nats"] for line in own), score["nats"], places=9)
        sizes = [len(text.encode()) for texts in self.texts.values() for text in texts]
        self.assertEqual([line["bytes"] for line in documents], sizes)

    def test_documents_do_not_depend_on_rows_or_threads(self):
        self.assertEqual(self.documents(self.a, "--batch-rows", 7, "--threads", 1), self.documents(self.a))

    def test_a_comparison_is_that_of_the_losses_of_both(self):
        found = self.comparison(self.a, self.b, *self.files)
        scores = [json.loads(moe("eval", "loss", model, *self.files, "--json", "-").stdout) for model in (self.a, self.b)]
        for name in ("headers", "python", "all"):
            part, (a, b) = found["all"], [score["all"] for score in scores]
            if name != "all":
                part, (a, b) = found["domains"][name], [score["domains"][name] for score in scores]
            self.assertAlmostEqual(part["a"], a["bits_per_byte"], places=12)
            self.assertAlmostEqual(part["b"], b["bits_per_byte"], places=12)
            self.assertAlmostEqual(part["difference"], part["b"] - part["a"], places=12)
            # The second model is the first one trained for longer, and the documents are like each other.
            self.assertLess(part["difference"] + part["error"], 0)
            self.assertLess(part["error"], a["bits_per_byte_error"])
        # The interval, computed again from the documents.
        pairs = list(zip(self.documents(self.a), self.documents(self.b)))
        size = math.log(2) * sum(a["bytes"] for a, _ in pairs)
        more = sum(b["nats"] - a["nats"] for a, b in pairs)
        without = [(more - (b["nats"] - a["nats"])) / (size - math.log(2) * a["bytes"]) for a, b in pairs]
        mean, count = sum(without) / len(pairs), len(pairs)
        jackknife = math.sqrt((count - 1) / count * sum((each - mean) ** 2 for each in without))
        self.assertGreater(found["all"]["error"], 1.96 * jackknife)
        self.assertLess(found["all"]["error"], 2.3 * jackknife)

    def test_files_of_losses_stand_for_models(self):
        a, b = self.base / "run.jsonl", self.base / "longer.jsonl"
        self.documents(self.a), self.documents(self.b)
        expected = self.comparison(self.a, self.b, *self.files)
        for one, other, *files in ((a, b), (self.a, b, *self.files), (a, self.b, *self.files)):
            found = self.comparison(one, other, *files)
            self.assertEqual((found["all"], found["domains"]), (expected["all"], expected["domains"]))
        table = moe("compare", a, b).stdout.splitlines()
        self.assertEqual(table[:2], [f"A: {a}", f"B: {b}"])
        self.assertEqual([line.split()[0] for line in table[2:]], ["domain", "headers", "python", "all"])
        total = expected["all"]
        self.assertTrue(table[-1].endswith(f"{total['difference']:+.4f} ± {total['error']:.4f}"), table[-1])

    def test_a_model_equals_itself_and_datasets_can_be_read(self):
        found = self.comparison(self.a, self.a, self.base / "dataset")
        self.assertEqual((found["all"]["difference"], found["all"]["error"]), (0, 0))

    def test_tokenizers_may_differ(self):
        moe("tokenizer", "train", "--vocab-size", 300, "--out", self.base / "other", *self.files)
        moe("data", "--tokenizer", self.base / "other", "--out", self.base / "other-data", *self.files)
        moe("train", self.base / "run.toml", "--set", f"run.dir={self.base}/third", "--set",
            f"data.train={self.base}/other-data", "--set", "data.valid=")
        found = self.comparison(self.a, self.base / "third", *self.files)
        score = json.loads(moe("eval", "loss", self.base / "third", *self.files, "--json", "-").stdout)
        self.assertAlmostEqual(found["all"]["b"], score["all"]["bits_per_byte"], places=12)
        self.assert_refused(1, "another tokenizer", "compare", self.a, self.base / "third", self.base / "dataset")

    def test_mistakes_get_one_sentence(self):
        lines = self.base / "run.jsonl"
        self.documents(self.a)
        part = self.base / "part.jsonl"
        part.write_text("".join(lines.read_text().splitlines(keepends=True)[:-1]))
        self.assert_refused(1, "compare systems on the same documents", "compare", lines, part)
        part.write_text("{}\n")
        self.assert_refused(1, "part.jsonl:1", "compare", lines, part)
        self.assert_refused(1, "nothing.jsonl", "compare", lines, self.base / "nothing.jsonl")
        self.assert_refused(2, "leave them out", "compare", lines, lines, self.files[0])
        self.assert_refused(2, "give at least one FILE", "compare", self.a, self.b)
        self.assert_refused(2, "standard input (-) can be read once", "compare", self.a, self.b, "-")
        self.assert_refused(2, "--sequence-length 65", "compare", self.a, self.b, self.files[0], "--sequence-length", 65)
        self.assert_refused(1, "nowhere", "compare", self.a, self.base / "nowhere", self.files[0])
        missing = self.base / "missing" / "out"
        self.assert_refused(1, "missing", "compare", self.a, self.b, self.files[0], "--json", missing)
        self.assert_refused(2, "expected the name of a file", "eval", "loss", self.a, self.files[0], "--documents", "-")
        self.assert_refused(1, "missing", "eval", "loss", self.a, self.files[0], "--documents", missing)


if __name__ == "__main__":
    unittest.main(verbosity=2)
