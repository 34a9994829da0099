"""The pages of the program in a browser: every picture has ink, nothing goes wrong, nothing is wider than the window.

Usage: pages_test.py PATH_OF_MOE. Without chromium it says so and ends with 77.
"""

import html
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from commands import RUN_FILE
from support import ROOT, make_dataset, moe

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (1280, 500)  # headless chromium has no narrower window; style.css has no rule between 400 and 500 pixels
SHOWN = "</script><img src=x onerror=\"document.documentElement.dataset.broken=1\">"


def attributes(page, width, dark=False):
    """The attributes of the root element after the page's script has used everything, and the whole document."""
    with tempfile.TemporaryDirectory(prefix="moe-pages-") as profile:
        shown = subprocess.run(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
             f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--window-size={width},900",
             "--virtual-time-budget=20000", "--dump-dom", f"file://{page}#check"],
            capture_output=True, text=True, timeout=240)
    root = re.search(r"<html[^>]*>", shown.stdout)
    assert root, shown.stderr[-2000:]
    return {name: html.unescape(value) for name, value in re.findall(r'data-(\w+)="([^"]*)"', root[0])}, shown.stdout


class PagesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-pages-test-"))
        headers = [path.read_text()[:3000] for path in sorted((ROOT / "src/base").glob("*.h"))[:12]]
        pages = [path.read_text()[:3000] for path in sorted((ROOT / "docs").glob("*.md"))[:12]]
        cls.texts = make_dataset(cls.base, {"headers": headers, "pages": pages})
        run_file = cls.base / "run.toml"
        run_file.write_text(RUN_FILE.format(folder=cls.base))
        cls.runs = [cls.base / "first", cls.base / "second"]
        for run, rate in zip(cls.runs, (0.003, 10)):
            moe("train", run_file, "--set", f"run.dir={run}", "--set", "train.steps=24", "--set", "log.counts_every=4",
                "--set", "eval.every=6", "--set", f"optimizer.learning_rate={rate}",
                "--set", f"sample.prompts=[{json.dumps(SHOWN)}, \"the\"]", "--set", "sample.every=8")
            moe("eval", "loss", run, *cls.texts, "--analyse", "--json", run / "eval.json")
            moe("eval", "causal", run, *cls.texts, "--tokens", 500, "--json", run / "causal.json")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def report(self, *runs):
        out = self.base / "report.html"
        moe("report", *runs, "--out", out)
        return out

    def check(self, page, pictures):
        for width in WIDTHS:
            for dark in (False, True):
                with self.subTest(width=width, dark=dark):
                    seen, document = attributes(page, width, dark)
                    self.assertNotIn("mistakes", seen)
                    self.assertEqual(seen.get("ready"), "true")
                    self.assertEqual(seen["blank"], "")
                    self.assertEqual(seen["wide"], "", "the page is wider than its window")
                    self.assertEqual(seen["pictures"].split("; "), pictures)
                    self.assertNotIn("broken", seen, "text of a run became part of the page")
        return document

    def test_a_report_of_one_run(self):
        layers = ("layer 0, first", "layer 1, first")
        document = self.check(self.report(self.runs[0]), [
            "loss", "learning rate", "gradient norm", "speed", "worst load", "domains of first",
            *(f"load over time, {layer}" for layer in layers), *(f"domains, {layer}" for layer in layers),
            *(f"pairs, {layer}" for layer in layers), *(f"causal, {layer}" for layer in layers)])
        self.assertIn(html.escape(SHOWN, quote=False), document)
        self.assertIn("Expert 3", document)

    def test_a_report_of_several_runs(self):
        layers = ("layer 0, first", "layer 1, first")
        document = self.check(self.report(*self.runs), [
            "loss", "learning rate", "gradient norm", "speed", "worst load", "domains of first", "domains of second",
            *(f"load over time, {layer}" for layer in layers), *(f"domains, {layer}" for layer in layers),
            *(f"pairs, {layer}" for layer in layers), *(f"causal, {layer}" for layer in layers)])
        self.assertIn("optimizer.learning_rate", document)
        self.assertIn("of a guess that gives every token the same probability", document)

    def test_a_trace(self):
        page = self.base / "trace.html"
        text = SHOWN
        moe("trace", self.runs[0], "--prompt", text, "--html", page)
        moe("trace", self.runs[0], "--prompt", text, "--json", self.base / "trace.json")
        trace = json.loads((self.base / "trace.json").read_text())
        for width in WIDTHS:
            with self.subTest(width=width):
                seen, document = attributes(page, width)
                self.assertNotIn("mistakes", seen)
                self.assertEqual(seen["ready"], "true")
                self.assertEqual(seen["wide"], "")
                self.assertNotIn("broken", seen)
                self.assertEqual(int(seen["words"]), len(trace["tokens"]) * len(trace["layers"]))
                self.assertEqual(document.count('<span class="word mono" style="background: linear-gradient('), int(seen["words"]))

    def test_the_check_notices_a_picture_without_ink_and_a_mistake(self):
        page = self.report(self.runs[0])
        text = page.read_text()
        blank = self.base / "blank.html"
        blank.write_text(text.replace("context.fillRect(x, y,", "void (x, y,").replace("context.fillText(", "void ("))
        self.assertIn("load over time, layer 0", attributes(blank, 1280)[0]["blank"])
        broken = self.base / "broken.html"
        broken.write_text(text.replace("showCurves(runs);\nshowPlan", "showCurve(runs);\nshowPlan"))
        self.assertIn("showCurve is not defined", attributes(broken, 1280)[0]["mistakes"])


if __name__ == "__main__":
    if BROWSER is None:
        print("skipped: there is no chromium to show the pages in; apt-get install chromium")
        sys.exit(77)
    unittest.main()
