"""What a run survives: kill -9 at random moments, and a disk that is full or broken at any write.

Usage: trust_test.py PATH_OF_MOE
"""

import errno
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from support import MOE, ROOT, log_without_times, make_dataset, moe, with_library, write_small_run

KILLS = 200


class TrustTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-trust-test-"))
        texts = sorted((ROOT / "src").rglob("*.h"))[:12]
        make_dataset(cls.base, {"headers": [path.read_text() for path in texts]})

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def run_file(self, name, **numbers):
        file = self.base / f"{name}.toml"
        write_small_run(file, self.base, **numbers)
        return file

    def assert_same_run(self, a, b):
        self.assertEqual(log_without_times(a / "log.jsonl"), log_without_times(b / "log.jsonl"))
        self.assertEqual(log_without_times(a / "eval.jsonl"), log_without_times(b / "eval.jsonl"))
        for name in ("model.safetensors", "optimizer-00001-of-00001.safetensors", "config.json", "tokenizer.json"):
            self.assertEqual((a / "latest" / name).read_bytes(), (b / "latest" / name).read_bytes(), name)

    def test_killed_at_random_moments_it_ends_with_the_same_bits(self):
        file = self.run_file("long", steps=1500, evaluate=100, save=3)
        straight, folder = self.base / "long-straight", self.base / "killed"
        moe("train", file, "--threads", 1, "--set", f"run.dir={straight}")
        draw, kills, resumed, begun = random.Random(1), 0, [], False
        while kills < KILLS:
            command = [MOE, "train", file, "--threads", "1", "--set", f"run.dir={folder}", *(["--resume"] if begun else [])]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            time.sleep(draw.uniform(0.02, 0.6))
            process.kill()
            said = process.communicate()[1]
            self.assertIn(process.returncode, (0, -signal.SIGKILL), said)
            self.assertNotIn("warning: ", "".join(line for line in said.splitlines() if "newest" in line))
            if process.returncode == 0:  # done before it was killed; on a fast machine the kills are enough for several runs
                moe("train", file, "--threads", 1, "--set", f"run.dir={folder}", "--resume")
                self.assert_same_run(straight, folder)
                shutil.rmtree(folder)
                begun = False
                continue
            kills, begun = kills + 1, True
            checkpoint = os.readlink(folder / "latest") if (folder / "latest").is_symlink() else "none"
            if checkpoint != (resumed[-1] if resumed else ""):
                resumed.append(checkpoint)
        moe("train", file, "--threads", 1, "--set", f"run.dir={folder}", "--resume")
        self.assert_same_run(straight, folder)
        left = [path.name for path in folder.iterdir() if ".tmp" in path.name]
        self.assertEqual(left, [])
        print(f"{kills} kills, {len(resumed)} different checkpoints between them")
        self.assertGreater(len(resumed), 20)

    def failing(self, file, folder, call, error, always):
        """A run whose call number `call` fails; its result, how many calls it made, and which one failed."""
        counted = self.base / "calls"
        environment = with_library("fail_at_write", {
            "FAIL_UNDER": str(folder), "FAIL_AT": str(call), "FAIL_ERRNO": str(error), "FAIL_ALWAYS": str(int(always)),
            "FAIL_COUNT": str(counted)})
        result = subprocess.run([MOE, "train", file, "--threads", "1", "--set", f"run.dir={folder}"], capture_output=True, text=True,
                                env=environment)
        count, failed = counted.read_text().split(" ", 1)
        return result, int(count), failed.strip()

    def test_any_write_may_fail_and_the_run_can_go_on(self):
        file = self.run_file("short", steps=7, evaluate=3, save=2)
        straight = self.base / "short-straight"
        _, calls, _ = self.failing(file, straight, 0, 0, False)
        self.assertGreater(calls, 40)
        tried = 0
        for error, always, words in ((errno.ENOSPC, True, "No space left on device"), (errno.EIO, False, "Input/output error")):
            for call in range(1, calls + 1):
                folder = self.base / f"failing-{error}-{call}"
                result, _, failed = self.failing(file, folder, call, error, always)
                with self.subTest(error=words, call=call, failed=failed, said=result.stderr):
                    tried += 1
                    self.assertIn(result.returncode, (0, 1))
                    if result.returncode == 1:
                        self.assertEqual(result.stderr.count("error: "), 1)
                    told = [line for line in result.stderr.splitlines() if words in line]
                    again = failed.startswith("rename") and failed.endswith(".removed")  # which is tried a second time
                    self.assertTrue(told or again, "a sentence says it")
                    self.assertTrue(all(str(folder) in line for line in told), "the sentence names the file")
                    resumed = moe("train", file, "--threads", 1, "--set", f"run.dir={folder}", "--resume", check=False)
                    self.assertEqual(resumed.returncode, 0, resumed.stderr)
                    self.assert_same_run(straight, folder)
                    self.assertEqual([path.name for path in folder.iterdir() if ".tmp" in path.name], [])
                shutil.rmtree(folder, ignore_errors=True)
        print(f"{tried} calls failed, of {calls} in a run")


if __name__ == "__main__":
    unittest.main(verbosity=2)
