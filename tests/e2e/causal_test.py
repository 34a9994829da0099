"""moe eval causal as a user types it: its changes are those of moe eval loss with masks.

Usage: causal_test.py PATH_OF_MOE
"""

import csv
import io
import json
import pathlib
import re
import shutil
import tempfile
import unittest

from commands import SmallRun
from support import ROOT, moe


class CausalTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-causal-test-"))
        cls.small = SmallRun(cls.base)
        cls.python = cls.base / "python.jsonl"
        texts = [path.read_text()[:400] for path in sorted((ROOT / "tools").glob("*.py"))[:6]]
        cls.python.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        cls.texts = [cls.small.text, cls.python]

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def causal(self, *arguments):
        return json.loads(moe("eval", "causal", self.small.run, *arguments, "--json", "-").stdout)

    def losses(self, *arguments):
        return json.loads(moe("eval", "loss", self.small.run, *arguments, "--json", "-").stdout)

    def refused(self, *arguments, model=None, status=1):
        result = moe("eval", "causal", model or self.small.run, *arguments, check=False)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertEqual(result.stderr.count("error:"), 1, result.stderr)
        return result.stderr

    def test_changes_and_loads_are_those_of_the_evaluation(self):
        found = self.causal(*self.texts, "--tokens", 10**9)
        plain = self.losses(*self.texts)
        self.assertEqual(found["loss"], plain["all"]["loss"])
        self.assertEqual(found["targets"], plain["all"]["tokens"])
        for layer, routing in zip(found["layers"], plain["routing"]["layers"], strict=True):
            self.assertEqual(layer["layer"], routing["layer"])
            self.assertAlmostEqual(sum(expert["load"] for expert in layer["experts"]), plain["routing"]["top_k"])
            for expert in layer["experts"]:
                self.assertAlmostEqual(expert["load"], plain["routing"]["top_k"] * routing["load"][expert["expert"]])
                masked = self.losses(*self.texts, "--mask-experts", f"{layer['layer']}:{expert['expert']}")
                self.assertEqual(expert["change"]["all"]["b"], masked["all"]["loss"])
                for domain, score in masked["domains"].items():
                    self.assertEqual(expert["change"]["domains"][domain]["b"], score["loss"])
                    change = score["loss"] - plain["domains"][domain]["loss"]
                    self.assertAlmostEqual(expert["change"]["domains"][domain]["difference"], change, delta=1e-9)

    def test_numbers_do_not_depend_on_rows_or_threads(self):
        one = self.causal(*self.texts, "--tokens", 700, "--batch-rows", 1, "--threads", 1)
        many = self.causal(*self.texts, "--tokens", 700, "--batch-rows", 7, "--threads", 2)
        self.assertEqual(one, many)

    def test_weights_of_another_type_are_masked_alike(self):
        found = self.causal(*self.texts, "--tokens", 10**9, "--layer", 1, "--dtype", "bf16")
        self.assertNotEqual(found["loss"], self.losses(*self.texts)["all"]["loss"])
        for expert in found["layers"][0]["experts"]:
            masked = self.losses(*self.texts, "--dtype", "bf16", "--mask-experts", f"1:{expert['expert']}")
            self.assertEqual(expert["change"]["all"]["b"], masked["all"]["loss"])

    def test_so_many_tokens_of_each_domain(self):
        found = self.causal(*self.texts, "--tokens", 600)
        self.assertEqual(found["tokens"], 600)
        self.assertEqual({domain["tokens"] for domain in found["domains"].values()}, {300})

    def test_the_table_and_the_files_have_the_same_numbers(self):
        json_file, csv_file = self.base / "causal.json", self.base / "causal.csv"
        table = moe("eval", "causal", self.small.run, *self.texts, "--tokens", 600, "--json", json_file, "--csv", csv_file).stdout
        found, rows = json.loads(json_file.read_text()), list(csv.DictReader(io.StringIO(csv_file.read_text())))
        self.assertIn(f"600 tokens of {found['documents']} documents, {found['targets']} predicted", table)
        shown = re.findall(r"^ +(\d) +([\d.]+)% +[\d.]+ +([+-][\d.]+)", table, re.M)
        experts = [expert for layer in found["layers"] for expert in layer["experts"]]
        self.assertEqual(shown, [(str(expert["expert"]), f"{100 * expert['load']:.2f}", f"{expert['change']['all']['difference']:+.4f}")
                                 for expert in experts])
        self.assertEqual(table.count("shared"), len(found["layers"]))
        self.assertEqual(len(rows), len(found["layers"]) * (4 + 1) * 3)  # 4 experts and the shared one, 2 domains and "all"
        whole = [row for row in rows if row["domain"] == "all" and row["expert"] != "shared"]
        self.assertEqual([float(row["change"]) for row in whole], [expert["change"]["all"]["difference"] for expert in experts])
        changes = [expert["change"]["all"]["difference"] for expert in found["layers"][0]["experts"]]
        self.assertEqual(changes, sorted(changes, reverse=True))
        self.assertEqual(moe("eval", "causal", self.small.run, *self.texts, "--tokens", 600, "--csv", "-").stdout, csv_file.read_text())

    def test_one_layer_and_one_document(self):
        single = self.base / "single.txt"
        single.write_text("class Reader:\n    pass\n")
        found = self.causal(single, "--layer", 1)
        self.assertEqual([layer["layer"] for layer in found["layers"]], [1])
        self.assertEqual(found["documents"], 1)
        self.assertIsNone(found["layers"][0]["experts"][0]["change"]["all"]["error"])
        self.assertNotIn("±", moe("eval", "causal", self.small.run, single).stdout)

    def test_what_is_refused(self):
        empty, dense = self.base / "empty.jsonl", self.base / "dense"
        empty.write_text("")
        self.assertIn("no document was read", self.refused(empty))
        self.assertIn("nothing to predict", self.refused(self.small.text, self.python, "--tokens", 2))
        self.assertIn("has routed experts in the layers 0, 1", self.refused(self.small.text, "--layer", 5, status=2))
        self.assertIn("expert 0 of layer 0 cannot be masked", self.refused(self.small.text, "--experts-per-token", 4))
        self.assertIn("standard output can have one of them", self.refused(self.small.text, "--json", "-", "--csv", "-", status=2))
        self.assertIn("missing", self.refused(self.base / "missing.txt"))
        moe("init", "--config", self.small.run_file, "--set", "model.method=dense", "--set", "model.intermediate_size=32", "--out", dense)
        self.assertIn("has no routed experts, so there is none to mask", self.refused(self.small.text, model=dense))
        hashed = ROOT / "tests/golden/hash"
        self.assertIn("do not choose their experts by score (routing = hash)", self.refused(self.small.text, model=hashed))


if __name__ == "__main__":
    unittest.main()
