"""What cannot be done is said in a sentence, and before the work: memory and threads that the system refuses, paths where
nothing can be written, files that are no models.

Usage: refusals_test.py PATH_OF_MOE
"""

import json
import os
import pathlib
import resource
import shutil
import subprocess
import tempfile
import unittest

from support import MOE, SANITIZED
from commands import SmallRun


def run(*arguments, memory=None):
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    return subprocess.run([MOE, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          preexec_fn=limit if memory else None)


class RefusalsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-refusals-test-"))
        cls.small = SmallRun(cls.base)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def expect(self, sentence, *arguments, status=1, **limits):
        result = run(*arguments, **limits)
        self.assertIn(sentence, result.stderr, arguments)
        self.assertEqual(result.stderr.count("error: "), 1, result.stderr)
        self.assertEqual((result.returncode, result.stdout), (status, ""), arguments)
        return result

    @unittest.skipIf(SANITIZED, "a sanitizer needs more addresses than a limit leaves")
    def test_memory_that_the_system_refuses(self):
        """Whatever the limit, there is a result or a sentence."""
        refused = 0
        for command in (("eval", "loss"), ("generate",), ("train",), ("data",), ("tokenizer", "train"), ("bench", "layer")):
            for mib in range(40, 201, 5):  # with many threads, what fails changes from one step to the next
                result = run(*command, *self.small.arguments(*command), memory=mib << 20)
                if result.returncode == 0:
                    continue
                if result.returncode == 127:  # the system could not load its libraries
                    continue
                self.assertEqual(result.returncode, 1, (command, mib, result.stderr))
                self.assertEqual(result.stderr.count("error: "), 1, (command, mib, result.stderr))
                self.assertRegex(result.stderr, "memory|Cannot allocate|could be started")
                refused += 1
        self.assertGreater(refused, 3)

    @unittest.skipIf(SANITIZED, "a sanitizer needs more addresses than a limit leaves")
    def test_memory_for_a_large_vocabulary(self):
        """A JSON library also needs memory to give a large object back, where no exception can be caught."""
        tokenizer = json.loads((self.small.base / "tokenizer" / "tokenizer.json").read_text())
        vocabulary = tokenizer["model"]["vocab"]
        vocabulary.update({f"entry {i}": i for i in range(len(vocabulary), 150000)})
        large = self.small.new()
        large.mkdir()
        (large / "tokenizer.json").write_text(json.dumps(tokenizer))
        seen = set()
        least = (MOE.stat().st_size >> 20) + 2  # with less, the system cannot load the program
        for mib in range(least, least + 72, 2):
            if run("--version", memory=mib << 20).returncode != 0:  # the system cannot load the program, or give it a stack
                continue
            result = run("tokenizer", "encode", "--tokenizer", large, memory=mib << 20)
            self.assertIn(result.returncode, (0, 1), (mib, result.stderr))
            if result.returncode == 1:
                self.assertEqual(result.stderr.count("error: "), 1, (mib, result.stderr))
                self.assertIn("memory", result.stderr)
            seen.add(result.returncode)
        self.assertEqual(seen, {0, 1})

    def test_output_paths_are_looked_at_before_the_work(self):
        absent = self.base / "absent" / "scores.json"
        evaluate = ["eval", "loss", self.base / "no-such-model", self.small.text, "--json"]
        self.expect("it is a folder, expected the name of a file", *evaluate, self.base)
        self.expect("expected the name of a file", *evaluate, f"{self.base}/new/")
        self.expect(f"the folder {absent.parent} does not exist", *evaluate, absent)
        self.expect(f"the folder {absent.parent} does not exist", "logits", self.base / "no-such-model", "--tokens", 1,
                    "--out", absent)
        self.expect(f"{self.small.text}", "tokenizer", "train", "no-such-file.txt", "--out", self.small.text)
        for command in ("run", "show"):
            self.expect(f"{self.small.text}", "study", command, self.small.study_file, "--plots", self.small.text)

    def test_a_table_is_not_lost_with_its_file(self):
        """The file's folder goes while the evaluation runs."""
        folder = self.small.new()
        folder.mkdir()
        pipe = self.base / "text.txt"
        os.mkfifo(pipe)
        command = [MOE, "eval", "loss", self.small.model, pipe, "--json", folder / "scores.json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            with open(pipe, "w") as text:  # the program has looked at its output and reads its text
                folder.rmdir()
                text.write("A text that is long enough to have a few targets.\n")
            out, error = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 1)
        self.assertIn("bits per byte", out)
        self.assertIn(f"cannot create {folder}/scores.json", error)

    def test_a_pipe_is_no_file_of_weights(self):
        folder = self.base / "piped"
        shutil.copytree(self.small.model, folder)
        (folder / "model.safetensors").unlink()
        os.mkfifo(folder / "model.safetensors")
        self.expect("it is a pipe or a device", "generate", folder, "--prompt", "a")
        self.expect("it is a pipe or a device", "inspect", folder)

    def test_a_model_of_several_files_needs_all_of_them(self):
        for name, files in (("one", ["model-00001-of-00001.safetensors"]), ("two", ["a.safetensors", "b.safetensors"])):
            folder = self.base / name
            shutil.copytree(self.small.model, folder)
            (folder / "model.safetensors").rename(folder / files[0])
            content = (folder / files[0]).read_bytes()
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            weights = {name: files[0] for name in header if name != "__metadata__"}
            weights |= {f"of {file}": file for file in files[1:]}
            (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
        options = ["--prompt", "class", "--max-new-tokens", 5, "--quiet"]
        whole = run("generate", self.small.model, *options)
        self.assertEqual(run("generate", self.base / "one", *options).stdout, whole.stdout)
        self.assertEqual(whole.returncode, 0)
        self.expect('weight_map names "b.safetensors", which is not in the folder', "generate", self.base / "two", *options)


if __name__ == "__main__":
    unittest.main(verbosity=2)
