"""What a newcomer does first: asks for the version, completes a command with the tab key, installs, unpacks an archive on
another machine.

Usage: front_door_test.py PATH_OF_MOE BUILD_FOLDER
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv.pop(2))
from support import MOE  # noqa: E402  (it takes the program's path from the arguments)
from commands import all_commands, subcommands  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What a plain Debian 12 has; an archive brings the rest.
SYSTEM = ("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libdl.so.2", "libpthread.so.0",
          "librt.so.1")


def output_of(*command, **options):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True, **options).stdout


def completed(line, folder):
    """The words that bash offers for the last word of the line."""
    words = line.split(" ")
    script = f"""source <("{MOE}" completion bash)
COMP_WORDS=({" ".join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}; _moe; printf '%s\\n' "${{COMPREPLY[@]}}" """
    return output_of("bash", "--norc", "-c", script, cwd=folder).split()


class VersionTest(unittest.TestCase):
    def test_it_names_version_commit_and_compiler(self):
        first, second = output_of(MOE, "--version").splitlines()
        self.assertRegex(first, r"^moe \d+\.\d+\.\d+ \(commit (unknown|[0-9a-f]{7,40}(\+changes)?)\)$")
        self.assertRegex(second, r"^built with \w+ [\d.]+, \w+.*, (CUDA [\d.]+ for [\w -]+|without CUDA)$")

    def test_the_commit_is_that_of_the_tree(self):
        if not (ROOT / ".git").exists() or shutil.which("git") is None:
            self.skipTest("the sources are no git clone")
        head = output_of("git", "-C", ROOT, "rev-parse", "HEAD").strip()
        commit = re.search(r"commit ([0-9a-f]+)", output_of(MOE, "--version"))[1]
        if not head.startswith(commit):
            self.skipTest("the program was built before the last commit")
        self.assertGreaterEqual(len(commit), 7)


class CompletionTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="moe-front-door-"))
        (cls.folder / "text of mine.txt").write_text("text\n")
        (cls.folder / "books.txt").write_text("text\n")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def test_commands(self):
        self.assertEqual(set(completed("moe ", self.folder)), set(subcommands()))
        self.assertEqual(completed("moe gen", self.folder), ["generate"])
        self.assertEqual(completed("moe eval lo", self.folder), ["loss"])
        self.assertEqual(completed("moe help eval lo", self.folder), ["loss"])

    def test_every_command_and_option_is_known(self):
        script = output_of(MOE, "completion", "bash")
        for command in all_commands():
            self.assertIn(f"'moe {' '.join(command)}')", script)
        self.assertIn("--max-new-tokens", completed("moe generate --max", self.folder))
        self.assertEqual(completed("moe train run.toml --dry", self.folder), ["--dry-run"])

    def test_files(self):
        self.assertEqual(completed("moe data bo", self.folder), ["books.txt"])


class InstallTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="moe-install-"))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def test_install(self):
        output_of("cmake", "--install", BUILD, "--prefix", self.folder / "usr")
        program = self.folder / "usr/bin/moe"
        self.assertEqual(output_of(program, "--version"), output_of(MOE, "--version"))
        completion = (self.folder / "usr/share/bash-completion/completions/moe").read_text()
        self.assertEqual(completion, output_of(MOE, "completion", "bash"))
        for name in ("LICENSE", "README.md", "docs/index.md", "configs/demo.toml"):
            self.assertTrue((self.folder / "usr/share/doc/moe" / name).is_file(), name)

    def test_an_archive_runs_where_nothing_is_installed(self):
        if "fsanitize" in output_of(MOE, "--version"):
            self.skipTest("a program with sanitizers needs their libraries")
        chroot = shutil.which("chroot", path="/usr/sbin:/sbin:/usr/bin")
        enter = [chroot] if os.geteuid() == 0 else [shutil.which("unshare"), "--map-root-user", chroot]
        archive = output_of(ROOT / "tools/make_archive.sh", BUILD, self.folder).strip()
        self.assertRegex(archive, r"/moe-\d+\.\d+\.\d+-x86_64\.tar\.gz$")
        machine = self.folder / "machine"  # another machine: a root folder with the system's libraries alone
        (machine / "lib").mkdir(parents=True)
        (machine / "lib64").symlink_to("lib")
        (machine / "tmp").mkdir()
        for line in output_of("ldd", MOE).splitlines():
            path = re.search(r"(/\S+) \(", line)
            if path and pathlib.Path(path[1]).name in SYSTEM:
                shutil.copy(path[1], machine / "lib")
        subprocess.run(["tar", "-C", machine, "-xzf", archive], check=True)
        (machine / "tmp/text.txt").write_text("A text from which to learn a few words, and then a few words more.\n" * 50)
        program = "/" + pathlib.Path(archive).name.removesuffix(".tar.gz") + "/bin/moe"

        def there(*arguments):
            # The loader finds the program's folder through /proc, which this machine lacks, or through this variable.
            origin = {"LD_ORIGIN_PATH": str(pathlib.PurePath(program).parent)}
            return subprocess.run([*enter, machine, program, *arguments], capture_output=True, text=True, env=origin)

        version = there("--version")
        if version.returncode != 0 and os.geteuid() != 0 and re.search("(chroot|unshare): ", version.stderr):
            self.skipTest("only root may change the root folder here")
        self.assertEqual((version.returncode, version.stdout), (0, output_of(MOE, "--version")), version.stderr)
        learned = there("tokenizer", "train", "--vocab-size", "300", "--out", "/tmp/tokenizer", "/tmp/text.txt")
        self.assertEqual(learned.returncode, 0, learned.stderr)
        made = there("data", "--tokenizer", "/tmp/tokenizer", "--out", "/tmp/data", "/tmp/text.txt")
        self.assertEqual(made.returncode, 0, made.stderr)


if __name__ == "__main__":
    unittest.main()
