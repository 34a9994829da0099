"""What a machine does not give: threads that cannot be started."""

import pathlib
import resource
import shutil
import subprocess
import tempfile
import unittest

from support import MOE, SANITIZED, make_dataset

MIB = 1 << 20


@unittest.skipIf(SANITIZED, "a sanitizer needs more addresses than a limit leaves")
class LimitsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-limits-test-"))
        text = "one line of text that says little, and says it again and again\n" * 30
        make_dataset(cls.base, {"lines": [text + str(i) for i in range(40)]})

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def test_threads_that_cannot_start_are_a_sentence(self):
        # Stacks of 8 MiB: address space for some of them, and none for 400.
        def limit():
            resource.setrlimit(resource.RLIMIT_STACK, (8 * MIB, resource.getrlimit(resource.RLIMIT_STACK)[1]))
            resource.setrlimit(resource.RLIMIT_AS, (1200 * MIB, 1200 * MIB))
        arguments = [MOE, "tokenizer", "train", "--vocab-size", "300", "--out", self.base / "never", "--threads", "400",
                     self.base / "lines.jsonl"]
        result = subprocess.run(arguments, preexec_fn=limit, capture_output=True, text=True)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertRegex(result.stderr, r"error: only \d+ of 400 threads could be started: .*use fewer")
        self.assertFalse((self.base / "never").exists())


if __name__ == "__main__":
    unittest.main()
