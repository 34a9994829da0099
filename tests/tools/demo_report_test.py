"""tools/demo_report.py: the table beside xz, and what it says of a model that learned too little."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def report(scores):
    """What the script prints of two domains of 1000 bytes that xz packs into 300 (2.4 bits per byte)."""
    with tempfile.TemporaryDirectory() as folder:
        manifest, evaluation = Path(folder) / "manifest.json", Path(folder) / "eval.json"
        valid = {"valid": {"text_bytes": 1000, "xz_9_bytes": 300}}
        manifest.write_text(json.dumps({"domains": {name: valid for name in scores}}))
        domains = {name: {"bytes": 1000, "loss": 3.0, "bits_per_byte": bits} for name, bits in scores.items()}
        evaluation.write_text(json.dumps({"domains": domains}))
        script = [sys.executable, ROOT / "tools/demo_report.py", manifest, evaluation]
        return subprocess.run(script, capture_output=True, text=True, check=True).stdout


class Report(unittest.TestCase):
    def test_a_model_that_learned_is_compared_alone(self):
        text = report({"a": 1.5, "b": 1.9})
        self.assertIn("29.2% less than xz", text)
        self.assertNotIn("learned less", text)

    def test_a_model_that_learned_too_little_is_told(self):
        self.assertIn("learned less than it should: 2.000 bits per byte", report({"a": 2.0, "b": 2.0}))

    def test_a_domain_worse_than_xz_is_named(self):
        text = report({"a": 1.0, "b": 2.41})
        self.assertIn("learned less than it should: more bits than xz in b", text)


if __name__ == "__main__":
    unittest.main()
