"""`moe chat` in a pseudo-terminal and in a pipe, with a small random model that is made here.

Usage: chat_test.py PATH_OF_MOE
"""

import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import stat
import subprocess
import tempfile
import termios
import time
import unittest

from commands import RUN_FILE
from support import MOE, ROOT, make_dataset, moe

DEADLINE = 60  # seconds until something that never comes is a failure


class Terminal:
    """The program on a terminal of its own: what it shows comes in, keys go out."""

    def __init__(self, *arguments, state, environment=None):
        self.shown = ""
        self.process, self.master = pty.fork()
        if self.process == 0:
            names = dict(os.environ, TERM="xterm", XDG_STATE_HOME=str(state), LC_ALL="C.UTF-8", **(environment or {}))
            os.execve(MOE, [str(MOE), "chat", *map(str, arguments)], names)

    def read(self, seconds):
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return False
        try:
            piece = os.read(self.master, 65536)
        except OSError:  # the program has ended
            return False
        self.shown += piece.decode(errors="replace")
        return bool(piece)

    def expect(self, pattern):
        """Everything up to the pattern, which is taken away with it."""
        end = time.monotonic() + DEADLINE
        while not (found := re.search(pattern, self.shown)):
            if not self.read(end - time.monotonic()):
                raise AssertionError(f"{pattern!r} did not come after {self.shown!r}")
        before, self.shown = self.shown[:found.start()], self.shown[found.end():]
        return before

    def prompt(self):
        return self.expect(r"\x1b\[\?2004h> ")

    def type(self, keys):
        os.write(self.master, keys.encode())

    def line(self, text):
        """Types a line and returns what is shown until the next prompt."""
        self.type(text + "\r")
        return self.prompt()

    def status(self):
        while self.read(DEADLINE):
            pass
        _, status = os.waitpid(self.process, 0)
        os.close(self.master)
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


class ChatTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-chat-test-"))
        texts = [path.read_text()[:3000] for path in sorted((ROOT / "src/base").glob("*.h"))]
        make_dataset(cls.base, {"headers": texts}, vocab_size=300)
        run_file = cls.base / "run.toml"
        text = RUN_FILE.format(folder=cls.base).replace("max_position_embeddings = 64", "max_position_embeddings = 100000")
        text = text.replace("steps = 2", "steps = 2\ninit_std = 0.5")  # so that experts matter
        run_file.write_text(text.replace("num_hidden_layers = 2", "num_hidden_layers = 3\nfirst_k_dense_replace = 1\nintermediate_size = 24"))
        cls.model = cls.base / "model"
        moe("init", "--config", run_file, "--out", cls.model, "--seed", 5)
        shutil.copytree(cls.base / "tokenizer", cls.model, dirs_exist_ok=True)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.base))

    def pipe(self, *lines, options=(), check=True, model=None):
        text = "".join(line + "\n" for line in lines)
        return moe("chat", model or self.model, "--max-new-tokens", 12, "--seed", 2, *options, input=text, check=check)

    def terminal(self, *options):
        return Terminal(self.model, "--max-new-tokens", 12, "--seed", 2, *options, state=self.folder / "state")

    def saved(self, name="chat.json"):
        messages = json.loads((self.folder / name).read_text())["messages"]
        return [(message["role"], message["content"]) for message in messages]

    # In a pipe.

    def test_nothing_in_gives_nothing_out(self):
        for text in ("", "\n", "  \n\n"):
            result = moe("chat", self.model, "--quiet", input=text)
            self.assertEqual((result.stdout, result.stderr), ("", ""))
        self.assertIn("has no chat template, so this is the chat format of DeepSeekMoE", self.pipe().stderr)

    def test_every_line_of_a_pipe_gets_an_answer_and_nothing_else(self):
        one, two = self.pipe("class"), self.pipe("class", "int x")
        self.assertTrue(two.stdout.startswith(one.stdout))
        self.assertGreater(len(two.stdout), len(one.stdout))
        self.assertTrue(two.stdout.endswith("\n"))
        self.assertNotIn("\x1b", two.stderr)  # what the model writes goes to a pipe as it is
        self.assertNotIn("> ", two.stderr)
        self.assertEqual(self.pipe("class", "int x", options=["--threads", 1]).stdout, two.stdout)
        self.assertEqual(self.pipe("class\r").stdout, one.stdout)

    def test_a_line_that_fails_gives_status_1_and_the_others_go_on(self):
        whole = self.pipe("class", "int x")
        result = self.pipe("class", "/halp", "int x", check=False)
        self.assertEqual((result.returncode, result.stdout), (1, whole.stdout))
        self.assertIn("error: there is no command /halp; did you mean /help?\n", result.stderr)

    def test_commands_that_do_not_exist_or_are_wrong_are_answered_by_a_sentence(self):
        for line, sentence in {
            "/regnerate": "there is no command /regnerate; did you mean /regenerate?",
            "/quit": "there is no command /quit; did you mean /exit?",
            "/usr/bin/env is a program": "there is no command /usr/bin/env; /help lists the commands, and // begins a message with /",
            "/undo": "there is no question that could be taken back",
            "/undo 2": "/undo takes nothing after it",
            "/regenerate": "there is no question yet that could be answered again",
            "/save": "/save needs the name of a file",
            "/load no-such-file": "no-such-file",
            "/set temperature": "/set needs a key and a value",
            "/set temprature 1": "/set has no key temprature; did you mean temperature?",
            "/set top-p 2": "/set top-p 2: expected a number above 0 and at most 1",
            "/set stop x": "/set has no key stop",
            "/experts": "there is no answer yet whose experts could be shown",
            "/experts few": "/experts few: expected the number of experts",
            "/mask 1": "/mask 1: expected LAYER:EXPERT",
            "/mask 0:1": "cannot mask experts in layer 0",
            "/mask 1:9": "expert 9 to mask in layer 1",
            "/mask 1:0,1,2,3": "leaves 0 experts",
            "/boost 1:0": "/boost 1:0: expected LAYER:EXPERT NUMBER",
            "/boost 1:0 much": "/boost 1:0=much: expected LAYER:EXPERT",
            "/experts-per-token 9": "9 experts for a token are more than the 4 routed experts",
            "/experts-per-token x": "/experts-per-token x: expected a number from 1 to 4",
        }.items():
            with self.subTest(line=line):
                result = self.pipe(line, options=["--quiet"], check=False)
                self.assertEqual((result.returncode, result.stdout), (1, ""))
                self.assertTrue(result.stderr.startswith("error: "), result.stderr)
                self.assertIn(sentence, result.stderr)
                self.assertEqual(result.stderr.count("\n"), 1)

    def test_help_names_every_command_and_every_command_is_known(self):
        names = re.findall(r"(?m)^(/[a-z-]+) ", self.pipe("/help").stdout)
        self.assertEqual(names, "/help /system /undo /regenerate /save /load /set /stats /experts /mask /boost"
                                " /experts-per-token /clear /exit".split())
        page = (ROOT / "docs/chat.md").read_text()
        for name in names:
            self.assertIn(f"`{name}", page)
        for name in names:
            self.assertNotIn("there is no command", self.pipe(name, check=False).stderr)

    def test_two_slashes_begin_a_message(self):
        self.pipe("//etc", f"/save {self.folder}/chat.json")
        self.assertEqual(self.saved()[0], ("user", "/etc"))

    def test_messages_are_saved_and_loaded(self):
        first = self.pipe("/system be kind", "class", f"/save {self.folder}/chat.json", "int x").stdout
        self.assertEqual([role for role, _ in self.saved()], ["system", "user", "assistant"])
        loaded = self.pipe(f"/load {self.folder}/chat.json", "int x").stdout
        self.assertTrue(first.endswith(loaded))
        self.assertTrue(loaded)
        # Without an answer, and as a list alone.
        (self.folder / "list.json").write_text(json.dumps([{"role": "user", "content": "class"}]))
        alone = self.pipe("class").stdout
        self.assertEqual(self.pipe(f"/load {self.folder}/list.json", "/regenerate", "/set seed 2", options=["--temperature", 0]).stdout,
                         self.pipe("class", options=["--temperature", 0]).stdout)
        self.assertNotEqual(self.pipe("class", "/regenerate").stdout, alone + alone)
        (self.folder / "bad.json").write_text('[{"role": "robot", "content": "x"}]')
        refused = self.pipe(f"/load {self.folder}/bad.json", check=False)
        self.assertIn("expected system, user or assistant", refused.stderr)

    def test_undo_and_clear(self):
        one = self.pipe("class").stdout
        self.assertEqual(self.pipe("class", "/undo", "class").stdout, one + one)
        self.assertEqual(self.pipe("class", "int x", "/clear", "class").stdout, self.pipe("class", "int x").stdout + one)
        system = self.pipe("class", options=["--system", "be kind"]).stdout
        self.assertEqual(self.pipe("class", "/clear", "class", options=["--system", "be kind"]).stdout, system + system)
        self.assertEqual(self.pipe("/system be kind", "class").stdout, system)

    def test_settings(self):
        shown = self.pipe("/set temperature 0.25", "/set").stdout
        self.assertRegex(shown, r"(?m)^temperature +0\.25 ")
        for key in ("max-new-tokens", "top-k", "top-p", "min-p", "repetition-penalty", "seed"):
            self.assertRegex(shown, rf"(?m)^{key} ")
        self.assertEqual(self.pipe("/set temperature 0", "class").stdout, self.pipe("class", options=["--temperature", 0]).stdout)
        self.assertEqual(self.pipe("class", options=["--batch-invariant"]).stdout, self.pipe("class").stdout)
        cut = self.pipe("/set max-new-tokens 1", "class")
        self.assertIn("(cut off after 1 token; /set max-new-tokens N allows more)", cut.stderr)

    def test_another_routing_answers_as_if_it_had_been_there_from_the_start(self):
        plain = self.pipe("class").stdout
        different = {plain}
        for line, options in (
            ("/mask 1:0,1", ["--mask-experts", "1:0,1"]),
            ("/mask 2:3 1:0", ["--mask-experts", "2:3", "--mask-experts", "1:0"]),
            ("/boost 1:2 0.5", ["--boost-experts", "1:2=0.5"]),
            ("/boost 2:1 -1", ["--boost-experts", "2:1=-1"]),
            ("/experts-per-token 4", ["--experts-per-token", 4]),
        ):
            with self.subTest(line=line):
                fresh = self.pipe("class", options=options).stdout
                self.assertEqual(self.pipe("class", line).stdout, plain + fresh)
                back = line.split()[0] + " none"
                self.assertEqual(self.pipe("class", line, back).stdout, plain + fresh + plain)
                self.assertEqual(self.pipe(line, "class").stdout, fresh)
                different.add(fresh)
        self.assertGreater(len(different), 3)

    def test_experts_are_shown_by_layer_and_marked(self):
        text = self.pipe("class", "/mask 1:0", "/boost 2:3 1", "/experts", options=["--temperature", 0]).stdout
        table = text[text.index("tokens of the last answer, 2 experts each"):].splitlines()[1:]
        self.assertEqual(len(table), 3)
        self.assertRegex(table[1], r"^    1 .*█.*%.*masked: 0$")
        self.assertRegex(table[2], r"^    2    3\+ ████████  50%")  # every token chose it, and one other
        self.assertNotRegex(table[1], r" 0[ +-] ")
        self.assertIn("masked: 1:0\nboosted: 2:3 +0.5\n2\n",
                      self.pipe("/mask 1:0", "/boost 2:3 0.5", "/mask", "/boost", "/experts-per-token").stdout)
        one = self.pipe("class", "/experts 1").stdout.splitlines()
        self.assertRegex(one[-1], r"%   and \d others?$")

    def test_a_full_context_lets_old_turns_go_and_says_so(self):
        lines = [f"number {i} of some lines" for i in range(12)]
        result = self.pipe(*lines, f"/save {self.folder}/chat.json", options=["--context", 100, "--system", "be kind", "--show-prompt"])
        self.assertRegex(result.stderr, r"\(the context was full: the \d+ oldest messages left it; /save still writes them\)")
        prompts = re.findall(r"(?s)--- prompt: (\d+) tokens ---\n(.*?)--- ids ---\n([\d ]+)\n", result.stderr)
        self.assertEqual(len(prompts), 12)
        for count, text, ids in prompts:
            self.assertLessEqual(int(count), 100)
            self.assertEqual(len(ids.split()), int(count))
            self.assertIn("be kind\n\nUser: ", text)
        self.assertIn(lines[11], prompts[11][1])
        self.assertNotIn(lines[0], prompts[11][1])
        self.assertEqual(len(self.saved()), 25)
        long = self.pipe("x" * 400, "class", options=["--context", 100], check=False)
        self.assertEqual(long.returncode, 1)
        self.assertRegex(long.stderr, r"error: the message has \d+ tokens, but the context has 100 in all; shorten it")
        self.assertEqual(long.stdout, self.pipe("class", options=["--context", 100]).stdout)

    def test_statistics(self):
        text = self.pipe("class", "int x", "/stats").stdout
        self.assertRegex(text, r"(?m)^prompt   \d+ tokens, \d+ from the cache; [\d.]+ tokens/s$")
        self.assertRegex(text, r"(?m)^answer   \d+ tokens?; [\d.]+ tokens/s$")
        self.assertRegex(text, r"(?m)^context  \d+ of 8192 tokens used, 4 messages$")
        self.assertGreater(int(re.search(r"(\d+) from the cache", text)[1]), 10)

    def test_a_model_s_own_template_is_used_and_bos_is_there_once(self):
        model = self.folder / "model"
        shutil.copytree(self.model, model)
        (model / "chat_template.jinja").write_text(
            "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}")
        result = self.pipe("class", options=["--show-prompt"], model=model)
        self.assertIn("<user>class<a>\n--- ids ---", result.stderr)
        self.assertNotIn("has no chat template", result.stderr)
        special = json.loads((model / "tokenizer.json").read_text())["added_tokens"]
        bos = next(token["id"] for token in special if "begin" in token["content"])
        ids = re.search(r"--- ids ---\n([\d ]+)\n", result.stderr)[1].split()
        self.assertEqual(ids.count(str(bos)), 1)
        self.assertEqual(ids[0], str(bos))
        (model / "chat_template.jinja").write_text("{{ raise_exception('no talking') }}")
        self.assertIn("no talking", self.pipe("class", check=False, model=model).stderr)

    # On a terminal.

    def test_history_comes_back_in_a_later_chat(self):
        chat = self.terminal()
        chat.prompt()
        chat.line("first line é")
        chat.line("second line")
        chat.type("\x04")
        self.assertEqual(chat.status(), 0)
        file = self.folder / "state/moe/chat_history"
        self.assertEqual([json.loads(line) for line in file.read_text().splitlines()], ["first line é", "second line"])
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        again = self.terminal()
        again.prompt()
        again.line("\x1b[A\x1b[A")  # twice up
        again.line(f"/save {self.folder}/chat.json")
        again.type("/exit\r")
        self.assertEqual(again.status(), 0)
        self.assertEqual(self.saved()[0], ("user", "first line é"))

    def test_history_can_be_turned_off(self):
        chat = self.terminal("--no-history")
        chat.prompt()
        chat.line("class")
        chat.type("\x04")
        self.assertEqual(chat.status(), 0)
        self.assertFalse((self.folder / "state").exists())

    def test_messages_of_several_lines(self):
        chat = self.terminal()
        chat.prompt()
        for keys in ("one\\\rtwo", '"""\rthree\r\rfour\r"""', "\x1b[200~five\rsix\r\x1b[201~", "seven\x1b\reight"):
            chat.line(keys)
        chat.line(f"/save {self.folder}/chat.json")
        chat.type("\x04")
        self.assertEqual(chat.status(), 0)
        self.assertEqual([text for role, text in self.saved() if role == "user"],
                         ["one\ntwo", "three\n\nfour", "five\nsix", "seven\neight"])

    def test_lines_are_edited(self):
        chat = self.terminal()
        chat.prompt()
        chat.line("wrold\x7f\x7f\x7f\x7forld\x01hello \x05 日本\x7f語")  # backspaces, to the begin, to the end
        chat.line(f"/sav\t{self.folder}/chat.json")  # completed
        chat.type("\x04")
        self.assertEqual(chat.status(), 0)
        self.assertEqual(self.saved()[0], ("user", "hello world 日語"))

    def test_ctrl_c_stops_an_answer_and_not_the_program(self):
        endless = self.folder / "model"  # no token ends its text
        shutil.copytree(self.model, endless)
        names = json.loads((endless / "tokenizer_config.json").read_text())
        del names["eos_token"]
        (endless / "tokenizer_config.json").write_text(json.dumps(names))
        chat = Terminal(endless, "--context", 100000, "--temperature", 0, state=self.folder / "state")
        chat.prompt()
        chat.line("/set max-new-tokens 90000")
        chat.type("class\r")
        chat.expect(r"class\r\n(?s:.){200}")  # it writes
        chat.type("\x03")
        chat.expect(r"\(stopped; the answer so far stays in the conversation\)")
        chat.prompt()
        chat.line("/set max-new-tokens 5")
        chat.line("go on")
        chat.line(f"/save {self.folder}/chat.json")
        chat.type("\x04")
        self.assertEqual(chat.status(), 0)
        roles, texts = zip(*self.saved())
        self.assertEqual(roles, ("user", "assistant", "user", "assistant"))
        self.assertGreater(len(texts[1]), 100)

    def test_ctrl_c_at_the_prompt_clears_the_line_and_twice_ends(self):
        chat = self.terminal()
        chat.prompt()
        chat.type("do not send this")
        chat.expect("send this")
        chat.type("\x03")
        chat.prompt()
        chat.line(f"/save {self.folder}/chat.json")
        self.assertEqual(self.saved(), [])
        chat.type("\x03")
        chat.expect("Ctrl-C once more, or Ctrl-D, ends the chat")
        chat.prompt()
        chat.type("\x03")
        self.assertEqual(chat.status(), 0)

    def test_a_signal_ends_it_and_the_terminal_is_as_it_was(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            chat = self.terminal()
            before = termios.tcgetattr(chat.master)
            chat.prompt()
            chat.type("half a line")
            chat.expect("half a line")
            self.assertNotEqual(termios.tcgetattr(chat.master)[3] & termios.ICANON, before[3] & termios.ICANON)
            os.kill(chat.process, number)
            chat.expect(r"\x1b\[\?2004l")
            after = None
            while chat.read(DEADLINE):  # until it has ended; its terminal stays open on this side
                pass
            after = termios.tcgetattr(chat.master)
            self.assertEqual(after[3] & (termios.ICANON | termios.ECHO), before[3] & (termios.ICANON | termios.ECHO))
            self.assertEqual(chat.status(), -number)

    def test_experts_and_masks_on_a_terminal(self):
        chat = self.terminal("--temperature", 0)
        chat.prompt()
        chat.line("class")
        self.assertIn("layer  expert and its share of the choices", chat.line("/experts"))
        shown = chat.line("/mask 2:0")  # the last layer's change leaves every cached token
        self.assertRegex(shown, r"\((\d+) of \1 cached tokens hold under this routing\)")
        self.assertRegex(chat.line("/experts-per-token 1"), r"\(0 of \d+ cached tokens hold under this routing\)")
        chat.type("\x04")
        self.assertEqual(chat.status(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
