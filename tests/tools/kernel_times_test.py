"""bench/kernel_times.py: the last replay of a recorded step, and what each of its kernels costs."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADER = "start_ns,end_ns,node,blocks_x,blocks_y,threads,registers,shared_bytes,name\n"


def run(lines, *options):
    """What the script says of kernels (start, end, node, name), in us."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "times.csv"
        rows = [f"{1000 * start},{1000 * end},{node},4,1,256,32,0,{name}\n" for start, end, node, name in lines]
        path.write_text(HEADER + "".join(rows))
        script = [sys.executable, ROOT / "bench/kernel_times.py", path, *options]
        return subprocess.run(script, capture_output=True, text=True, check=False)


def step(start, norms=5):
    """Two layers: a product that starts while the norm runs, and what combines; `norms`: the first norm's time."""
    return [
        (start, start + norms, 1, "norm"),
        (start + 1, start + 10, 2, "void product<1>(int)"),
        (start + 9, start + 12, 3, "combine"),
        (start + 12, start + 17, 4, "norm"),
        (start + 13, start + 20, 5, "void product<1>(int)"),
        (start + 19, start + 24, 6, "combine"),
    ]


class KernelTimes(unittest.TestCase):
    def test_a_kernel_costs_the_time_since_the_end_of_those_before(self):
        text = run(step(0) + step(100) + step(200) + [(50, 60, 0, "other")]).stdout
        self.assertIn("100.0 us from replay to replay, 6 kernels", text)
        self.assertRegex(text, r"\n +2 +4\.00 +8\.00 +4x1 +product<1>\n")
        self.assertRegex(text, r"\n +2 +5\.00 +5\.00 +4x1 +norm\n")
        self.assertNotIn("other", text)

    def test_the_last_whole_replay_counts(self):
        text = run(step(0) + step(100, norms=3) + step(200)).stdout
        self.assertRegex(text, r"\n +2 +4\.00 +4\.00 +4x1 +norm\n")

    def test_layers_are_taken_from_one_combining_to_the_next(self):
        text = run(step(0) + step(100), "--from", "combine").stdout
        self.assertRegex(text, r"\n +1 +5\.00 +5\.00 +4x1 +norm\n +1 +3\.00 +7\.00 +4x1 +product<1>\n +1 +4\.00 ")
        self.assertIn("12.00 us a layer", text)

    def test_what_is_missing_is_named(self):
        self.assertIn("has no kernel of a recording", run([(0, 1, 0, "other")]).stderr)
        self.assertIn("no two replays", run(step(0)).stderr)
        self.assertIn("nowhere is not twice in a step", run(step(0) + step(100), "--from", "nowhere").stderr)


if __name__ == "__main__":
    unittest.main()
