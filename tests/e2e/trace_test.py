"""moe trace as a user types it: the experts of every token, equal to what moe eval loss counts.

Usage: trace_test.py PATH_OF_MOE
"""

import json
import os
import pathlib
import pty
import re
import shutil
import subprocess
import tempfile
import unittest

from commands import SmallRun
from support import MOE, moe


class TraceTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-trace-test-"))
        cls.small = SmallRun(cls.base)
        cls.short = "class Tokenizer { </script> <b> \x1b[31m"
        cls.trace = cls.traced("--prompt", cls.short)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    @classmethod
    def traced(cls, *arguments):
        return json.loads(moe("trace", cls.small.run, *arguments, "--json", "-").stdout)

    def refused(self, *arguments, status=1):
        result = moe("trace", self.small.run, *arguments, check=False)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stdout, "")
        return result.stderr

    def test_counts_and_losses_are_those_of_the_evaluation(self):
        for switches in ([], ["--mask-experts", "1:2"], ["--experts-per-token", "1"]):
            with self.subTest(switches=switches):
                text, scores = self.base / "text.jsonl", self.base / "scores.json"
                text.write_text(json.dumps({"text": self.short}) + "\n")
                moe("eval", "loss", self.small.run, text, "--analyse", "--json", scores, *switches)
                evaluated = json.loads(scores.read_text())
                trace = self.traced("--prompt", self.short, *switches)
                for layer, choices in zip(trace["layers"], evaluated["choices"]["layers"], strict=True):
                    self.assertEqual(layer["layer"], choices["layer"])
                    self.assertEqual(layer["counts"], [row[expert] for expert, row in enumerate(choices["coactivation"])])
                losses = [token["loss"] for token in trace["tokens"][1:]]
                self.assertAlmostEqual(sum(losses), evaluated["all"]["nats"], delta=1e-5 * len(losses))
                self.assertEqual(len(losses), evaluated["all"]["tokens"])

    def test_every_token_has_its_experts_with_the_largest_gate_first(self):
        self.assertIsNone(self.trace["tokens"][0]["loss"])
        for layer in self.trace["layers"]:
            counts = [0] * self.trace["experts"]
            self.assertEqual(len(layer["tokens"]), len(self.trace["tokens"]))
            for experts in layer["tokens"]:
                self.assertEqual(len({expert for expert, _ in experts}), 2)
                gates = [gate for _, gate in experts]
                self.assertEqual(gates, sorted(gates, reverse=True))
                self.assertTrue(0 < gates[1] and sum(gates) <= 1 + 1e-6, gates)
                for expert, _ in experts:
                    counts[expert] += 1
            self.assertEqual(layer["counts"], counts)

    def test_the_table_has_the_same_numbers_and_no_colour_in_a_file(self):
        table = moe("trace", self.small.run, "--prompt", self.short).stdout
        self.assertNotIn("\x1b", table)
        lines = iter(table.splitlines())
        for layer in self.trace["layers"]:
            self.assertEqual(next(lines), f"layer {layer['layer']}")
            self.assertIn("tokens of each expert:", next(lines))
            for token, experts in zip(self.trace["tokens"], layer["tokens"], strict=True):
                line = next(lines)
                self.assertTrue(line.strip().startswith(f'"{token["text"]}" '), line)
                shown = re.findall(r"(\d+) (\d\.\d{3})", line.rpartition('"')[2])
                self.assertEqual(shown, [(str(expert), f"{gate:.3f}") for expert, gate in experts])
            next(lines, None)
        one = moe("trace", self.small.run, "--prompt", self.short, "--layer", 1).stdout
        self.assertEqual(re.findall(r"^layer (\d+)", one, re.M), ["1"])

    def test_on_a_terminal_tokens_have_colours_and_text_cannot_change_it(self):
        main, end = pty.openpty()
        process = subprocess.Popen([MOE, "trace", self.small.run, "--prompt", self.short], stdout=end, stderr=subprocess.DEVNULL,
                                   stdin=subprocess.DEVNULL)
        os.close(end)
        shown = b""
        try:
            while part := os.read(main, 65536):
                shown += part
        except OSError:  # the other end is closed
            pass
        self.assertEqual(process.wait(), 0)
        self.assertEqual(set(re.findall(rb"\x1b\[(?!30;48;5;\d+m|0m)", shown)), set())
        self.assertGreater(shown.count(b"\x1b[30;48;5;"), 2 * 2 * len(self.trace["tokens"]))

    def test_the_page_has_the_same_object_and_text_stays_text(self):
        page = self.base / "trace.html"
        moe("trace", self.small.run, "--prompt", self.short, "--html", page)
        text = page.read_text()
        data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
        self.assertEqual({key: data[key] for key in self.trace}, self.trace)
        self.assertNotIn("</script> <b>", text)
        self.assertNotRegex(text, r"""(src|href)\s*=\s*["'](?!data:,)""")

    def test_what_is_refused(self):
        self.assertIn("give --prompt TEXT or --prompt-file FILE", self.refused(status=2))
        self.assertIn("the text is empty", self.refused("--prompt", "", status=2))
        self.assertIn("has routed experts in the layers 0, 1", self.refused("--prompt", "a", "--layer", 7, status=2))
        self.assertIn("expected at most 64 (max_position_embeddings)", self.refused("--prompt", "a b c d " * 40))
        self.assertIn("missing.txt", self.refused("--prompt-file", self.base / "missing.txt"))
        self.assertIn("excludes", self.refused("--prompt", "a", "--prompt-file", self.small.text, status=2))


if __name__ == "__main__":
    unittest.main()
