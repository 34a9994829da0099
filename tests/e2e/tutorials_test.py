"""The commands of the tutorials (docs/tutorial-*.md), of the other pages and of the README: every `moe` command, option and key
in them exists. tools/follow_page.py runs a tutorial's commands.

Usage: tutorials_test.py PATH_OF_MOE
"""

import functools
import re
import shlex
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from support import ROOT, moe
from commands import all_commands, help_of

sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))
from follow_page import commands_of  # noqa: E402

TUTORIALS = sorted((ROOT / "docs").glob("tutorial-*.md"))
PAGES = [ROOT / "README.md", *sorted(set((ROOT / "docs").glob("*.md")) - set(TUTORIALS))]
ENDS = {";", "|", "||", "&", "&&", ">", ">>", "2>", "<"}


@functools.cache
def known_commands():
    return set(all_commands())


@functools.cache
def options_of(command):
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", help_of(*command)))


@functools.cache
def known_keys():
    return set(re.findall(r"^\| `([a-z_]+\.[a-z0-9_]+)`", moe("train", "--keys").stdout + moe("study", "--keys").stdout, re.MULTILINE))


def calls_in(command):
    """The words after each `moe` of a line of the shell."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=";|&<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words, calls, inside = list(lexer), [], False
    for word in words:
        if word in ENDS:
            inside = False
        elif word in ("moe", "build/moe"):
            calls.append([])
            inside = True
        elif inside:
            calls[-1].append(word)
    return calls


def mistakes_of_call(words):
    """What of a call the program does not know."""
    command = ()
    while len(words) > len(command) and (*command, words[len(command)]) in known_commands():
        command += (words[len(command)],)
    rest = words[len(command):]
    if (not command or " SUBCOMMAND" in help_of(*command).partition("\n\n")[0]) and not (rest and rest[0].startswith("-")):
        return [f"there is no command {' '.join([*command, *rest[:1]])}"]
    found = []
    for at, word in enumerate(rest, len(command)):
        option = word.partition("=")[0]
        if re.fullmatch(r"--?[a-zA-Z][\w-]*", option) and option not in options_of(command):
            found.append(f"moe {' '.join(command)} has no option {option}")
        if words[at - 1] in ("--set", "--allow-change") and option not in known_keys():
            found.append(f"there is no key {option}")
    return found


def mistakes_of_file(text):
    """Keys of a run file or study that do not exist."""
    found, section = [], ""
    for line in text.splitlines():
        if header := re.fullmatch(r"\[(\w+)\].*", line):
            section = header[1]
        elif inline := re.fullmatch(r"(\w+) = \{ (.*) \}", line):  # a section in one line
            found += mistakes_of_file(f"[{inline[1]}]\n" + re.sub(r", (?=\w+ = )", "\n", inline[2]))
        elif (key := re.match(r"(\w+) *=", line)) and f"{section}.{key[1]}" not in known_keys():
            found.append(f"there is no key {section}.{key[1]}")
    return found


def mistakes_of_page(text):
    """[(line, mistake)] and the number of calls looked at."""
    found, seen = [], 0
    for line, command in commands_of(text):
        first, _, rest = command.partition("\n")
        if "<<" in first:
            if re.search(r"> \S+\.toml <<", first):
                found += [(line, mistake) for mistake in mistakes_of_file(rest)]
            continue
        for words in calls_in(command.replace("\\\n", " ")):
            seen += 1
            found += [(line, mistake) for mistake in mistakes_of_call(words)]
        found += [(line, f"there is no {path}") for path in re.findall(r"(?<!\S)(?:configs|tools)/[\w./-]+", command)
                  if not (ROOT / path).exists()]
    return found, seen


class TutorialsTest(unittest.TestCase):
    def test_every_command_option_and_key_of_the_tutorials_exists(self):
        self.assertEqual([page.stem for page in TUTORIALS], ["tutorial-days", "tutorial-laptop", "tutorial-researcher"])
        for page in TUTORIALS:
            with self.subTest(page.name):
                found, seen = mistakes_of_page(page.read_text(encoding="utf-8"))
                self.assertEqual(found, [])
                self.assertGreaterEqual(seen, 5)

    def test_every_command_and_option_of_the_other_pages_exists(self):
        """Lines of indented blocks that begin with `moe` or `build/moe`; forms such as [--set KEY=VALUE] are no keys."""
        seen = 0
        for page in PAGES:
            text = re.sub(r" *\\\n *", " ", page.read_text(encoding="utf-8"))
            for number, line in enumerate(text.splitlines(), 1):
                if not re.match(r"    (build/)?moe \w", line):
                    continue
                form = re.search(r"[\[|]|\bKEY\b|\bCOMMAND\b", line)
                for words in calls_in(re.sub(r"[\[\]]|\.\.\.|\|", " ", line) if form else line):
                    seen += 1
                    found = [mistake for mistake in mistakes_of_call(words) if not (form and "no key" in mistake)]
                    self.assertEqual(found, [], f"{page.name}:{number}: {line}")
        self.assertGreater(seen, 100)

    def test_each_kind_of_mistake_is_found(self):
        for wrong, sentence in (("build/moe trian mine.toml", "there is no command trian"),
                                ("build/moe eval los x.txt", "there is no command eval los"),
                                ("echo | build/moe generate x --promt y", "moe generate has no option --promt"),
                                ("build/moe train x \\\n        --set optimizer.lr=1", "there is no key optimizer.lr"),
                                ("build/moe train configs/gone.toml", "there is no configs/gone.toml"),
                                ("cat > x.toml <<'END'\n    [train]\n    stebs = 3\n    END", "there is no key train.stebs"),
                                ("cat > x.toml <<'END'\n    eval = { every = 2, evry = 3 }\n    END", "there is no key eval.evry")):
            with self.subTest(wrong):
                found, _ = mistakes_of_page(f"Text.\n\n    $ {wrong}\n    output\n")
                self.assertEqual(found, [(3, sentence)])
        right = "    $ printf 'moe x\\n' | build/moe chat runs/mine --seed 1 > --out\n    $ build/moe --version\n"
        self.assertEqual(mistakes_of_page(right), ([], 2))


class FollowTest(unittest.TestCase):
    def follow(self, page):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "page.md").write_text(page)
            done = subprocess.run([sys.executable, ROOT / "tools/follow_page.py", "page.md"], cwd=folder, capture_output=True,
                                  text=True)
            return done.returncode, done.stdout + done.stderr, sorted(path.name for path in Path(folder).iterdir())

    def test_commands_run_in_order_up_to_the_first_that_fails(self):
        page = ("    $ cat > a.txt <<'END'\n    one\n        two\n    END\n    $ cat \\\n        a.txt\n    one\n"
                "    $ false  # exit status 1\n    $ false\n    $ touch late.txt\n")
        status, said, files = self.follow(page)
        self.assertEqual((status, files), (1, ["a.txt", "page.md"]))
        self.assertIn("\none\n    two\n", said)
        self.assertIn("page.md:9: expected exit status 0", said)

    def test_a_page_without_commands_is_refused(self):
        self.assertEqual(self.follow("    moe train\n")[0], 1)


if __name__ == "__main__":
    unittest.main()
