"""The scripts round the build: what is missing is named, what is there is left alone, results are counted."""

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / "tools/install_dependencies.sh"


class InstallDependencies(unittest.TestCase):
    """Run with a folder of commands of our own as the whole PATH: a machine without cmake and without a compiler."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.bin = Path(folder.name)
        self.log = self.bin / "apt.log"
        for name in ("bash", "uname", "find", "cat", "env", "sleep"):
            (self.bin / name).symlink_to(shutil.which(name))

    def command(self, name, text):
        path = self.bin / name
        path.write_text(f"#!{self.bin}/bash\n{text}\n")
        path.chmod(0o755)

    def run_script(self, *groups):
        done = subprocess.run(
            [shutil.which("bash"), INSTALL, *groups], env={"PATH": str(self.bin)}, capture_output=True, text=True
        )
        return done.returncode, done.stderr

    def test_nothing_is_run_when_nothing_is_missing(self):
        self.command("clang-tidy", "exit 0")
        self.command("apt-get", f"echo called >>{self.log}")
        self.assertEqual(self.run_script("tidy"), (0, ""))
        self.assertFalse(self.log.exists())

    def test_without_root_one_sentence_names_the_command(self):
        self.command("id", "echo 1000")
        self.command("apt-get", f"echo called >>{self.log}")
        status, error = self.run_script("tidy", "format")
        self.assertEqual(status, 1)
        self.assertEqual(len(error.splitlines()), 1, error)
        self.assertIn("run as root: apt-get install --no-install-recommends clang-tidy clang-format", error)
        self.assertFalse(self.log.exists())

    def test_sudo_is_used_when_it_asks_nothing(self):
        self.command("id", "echo 1000")
        self.command("sudo", 'shift; [ "$1" = true ] && exit 0; "$@"')
        self.command("apt-get", f'echo "$DEBIAN_FRONTEND $*" >>{self.log}')
        status, error = self.run_script("tidy")
        self.assertEqual(status, 0, error)
        self.assertIn("noninteractive install -y -qq --no-install-recommends clang-tidy", self.log.read_text())

    def test_as_root_a_failed_install_is_tried_again_after_an_update_and_then_explained(self):
        self.command("id", "echo 0")
        self.command("apt-get", f'echo "$1" >>{self.log}; [ "$1" = update ]')
        status, error = self.run_script("tidy")
        self.assertEqual(status, 1)
        calls = self.log.read_text().split()
        self.assertIn(calls, (["install", "update", "install"], ["update", "install"]))
        self.assertIn("to install by hand run: apt-get install --no-install-recommends clang-tidy", error.splitlines()[-1])

    def test_without_apt_the_packages_are_named(self):
        status, error = self.run_script("tidy")
        self.assertEqual(status, 1)
        self.assertIn("there is no apt-get to install them with: clang-tidy", error)


class SummariseTests(unittest.TestCase):
    CASES = {
        "pass": '<testcase name="p{n}" status="run"><system-out>ok</system-out></testcase>',
        "fail": '<testcase name="f{n}" status="fail"><failure message=""/><system-out>bad</system-out></testcase>',
        "skip": '<testcase name="s{n}" status="notrun"><skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/>'
        "<system-out>[ RUN      ] A.B\n/x/a_test.cpp:7: Skipped\nthere is no shared folder\n\n[  SKIPPED ] A.B</system-out></testcase>",
    }

    def summarise(self, *kinds):
        text = "".join(self.CASES[kind].format(n=n) for n, kind in enumerate(kinds))
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(f"<testsuite>{text}</testsuite>")
            file.flush()
            done = subprocess.run(
                [sys.executable, ROOT / "tools/summarise_tests.py", file.name], capture_output=True, text=True
            )
        return done.returncode, done.stdout.splitlines()

    def test_the_last_line_counts_and_a_skip_says_why(self):
        status, lines = self.summarise("pass", "skip", "pass")
        self.assertEqual(status, 0)
        reasons = ["skipped s1: there is no shared folder", "1 skipped because: there is no shared folder"]
        self.assertEqual(lines, [*reasons, "2 passed, 0 failed, 1 skipped"])

    def test_skips_are_counted_apart_by_reason(self):
        gpu = self.CASES["skip"].replace("there is no shared folder", "no GPU").replace("s{n}", "g{n}")
        self.CASES = {**self.CASES, "gpu": gpu}
        lines = self.summarise("gpu", "skip", "pass", "gpu")[1]
        self.assertEqual(lines[3:], ["2 skipped because: no GPU", "1 skipped because: there is no shared folder",
                                     "1 passed, 0 failed, 3 skipped"])

    def test_a_script_may_print_its_reason_behind_the_mark(self):
        case = '<testcase name="s" status="notrun"><skipped message="X"/><system-out>[  SKIPPED ] no venv\n</system-out></testcase>'
        self.CASES = {"skip": case.replace("{", "{{")}
        self.assertEqual(self.summarise("skip")[1], ["skipped s: no venv", "1 skipped because: no venv", "0 passed, 0 failed, 1 skipped"])

    def test_a_failure_is_named_and_fails(self):
        status, lines = self.summarise("pass", "fail")
        self.assertEqual((status, lines), (1, ["FAILED f1", "1 passed, 1 failed, 0 skipped"]))

    def test_no_test_at_all_fails(self):
        self.assertEqual(self.summarise(), (1, ["0 passed, 0 failed, 0 skipped"]))


if __name__ == "__main__":
    unittest.main()
