"""Ranks that are killed at random moments: all end soon, and the run that resumes has the bits of one that nothing stopped.

Usage: rank_kills_test.py PATH_OF_MOE
"""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from support import MOE, ROOT, children_of, log_without_times, make_dataset, moe, write_small_run

KILLS = 25  # of each layout
LOST = 75  # the exit status of a rank that ends because another one has ended
LIMIT = 20  # seconds


class RankKillsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-rank-kills-test-"))
        texts = sorted((ROOT / "src").rglob("*.h"))[:12]
        make_dataset(cls.base, {"headers": [path.read_text() for path in texts]})
        cls.file = cls.base / "run.toml"
        write_small_run(cls.file, cls.base, steps=300, evaluate=50, save=3)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def arguments(self, folder, layout, resume):
        return ["train", self.file, "--device", "cpu", "--threads", 1, *layout, "--set", f"run.dir={folder}",
                "--set", "data.rows_per_step=12", *(["--resume"] if resume else [])]

    def kill_one(self, process, draw):
        """Kills a random rank that has been started. The rank's number among the processes: 0 is the one that was typed."""
        ranks = [process.pid, *children_of(process.pid)]
        chosen = draw.randrange(len(ranks))
        try:
            os.kill(ranks[chosen], signal.SIGKILL)
        except ProcessLookupError:  # the run was done
            pass
        return ranks, chosen

    def assert_all_end(self, ranks):
        end = time.monotonic() + LIMIT
        while any(pathlib.Path(f"/proc/{rank}/stat").exists() for rank in ranks):
            self.assertLess(time.monotonic(), end, "a rank goes on without another one")
            time.sleep(0.02)

    def killed_again_and_again(self, layout):
        name = "".join(map(str, layout))
        straight, folder = self.base / f"straight{name}", self.base / f"killed{name}"
        moe(*self.arguments(straight, layout, False))
        draw, killed = random.Random(1), set()
        for number in range(KILLS):
            process = subprocess.Popen([MOE, *map(str, self.arguments(folder, layout, number > 0))], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE, text=True)
            time.sleep(draw.uniform(0.1, 2.5))
            ranks, chosen = self.kill_one(process, draw)
            said = process.communicate(timeout=2 * LIMIT)[1]
            self.assertIn(process.returncode, (0, -signal.SIGKILL if chosen == 0 else LOST, LOST), said)
            self.assert_all_end(ranks)
            if process.returncode == LOST:
                self.assertEqual(said.count("error: rank "), 1, said)
                killed.add(chosen)
        said = moe(*self.arguments(folder, layout, True)).stderr
        self.assertGreater(len(killed), 1)
        for log in ("log.jsonl", "eval.jsonl"):
            self.assertEqual(log_without_times(straight / log), log_without_times(folder / log), said)
        weights = sorted(path.name for path in (straight / "latest").glob("*.safetensors"))
        for file in weights:
            self.assertEqual((straight / "latest" / file).read_bytes(), (folder / "latest" / file).read_bytes(), file)

    def test_data_parallel_ranks(self):
        self.killed_again_and_again(["--ranks", 3])

    def test_ranks_of_experts_and_stages(self):
        self.killed_again_and_again(["--ranks", 4, "--expert-parallel", 2, "--pipeline", 2])


if __name__ == "__main__":
    unittest.main(argv=["rank_kills_test"])
