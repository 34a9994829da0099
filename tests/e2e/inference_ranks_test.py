"""`moe generate`, `moe chat` and `moe eval loss` on several ranks, which are processes that divide the routed experts, the
layers, or both.

Usage: inference_ranks_test.py PATH_OF_MOE

With MOE_TEST_DEVICE=cuda in the environment every rank has a GPU; tests that need more of them than there are here are skipped,
and without two it ends with status 77 (skipped).
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

from chat_test import Terminal
from commands import RUN_FILE
from support import MOE, ROOT, children_of, free_port, gpus, make_dataset, moe

DEVICE = os.environ.get("MOE_TEST_DEVICE", "cpu")
SKIPPED = 77
LOST = 75  # the exit status of a rank that ends because another one has ended
PROMPT = "#include <string>"
CPU_RANKS = (2, 4)


def without_numbers(value, found):
    """The value with "number" in the place of each fraction, which `found` gets."""
    if isinstance(value, float):
        found.append(value)
        return "number"
    if isinstance(value, list):
        return [without_numbers(one, found) for one in value]
    return {key: without_numbers(one, found) for key, one in value.items()} if isinstance(value, dict) else value


class InferenceRanksTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-inference-ranks-test-"))
        texts = [path.read_text()[:3000] for path in sorted((ROOT / "src/base").glob("*.h"))]
        make_dataset(cls.base, {"headers": texts}, vocab_size=300, tokenizer=("--pattern", "qwen2"))
        cls.model = cls.make_model("model")
        # No token ends its text.
        cls.endless = cls.base / "endless"
        shutil.copytree(cls.model, cls.endless)
        names = json.loads((cls.endless / "tokenizer_config.json").read_text())
        del names["eos_token"]
        (cls.endless / "tokenizer_config.json").write_text(json.dumps(names))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    @classmethod
    def make_model(cls, name, *settings, out=None, options=()):
        """A random model whose experts matter."""
        run_file = cls.base / f"{name}.toml"
        text = RUN_FILE.format(folder=cls.base).replace("max_position_embeddings = 64", "max_position_embeddings = 100000")
        text = text.replace("steps = 2", "steps = 2\ninit_std = 0.5")
        text = text.replace("num_hidden_layers = 2", "num_hidden_layers = 3\nfirst_k_dense_replace = 1\nintermediate_size = 24")
        run_file.write_text(text)
        folder = out or cls.base / name
        sets = [word for setting in settings for word in ("--set", setting)]
        moe("init", "--config", run_file, *sets, "--out", folder, "--seed", 5, *options)
        if folder.is_dir():
            shutil.copytree(cls.base / "tokenizer", folder, dirs_exist_ok=True)
        return folder

    @classmethod
    def device(cls, ranks):
        if DEVICE == "cuda" and ranks > gpus():
            raise unittest.SkipTest(f"{ranks} GPUs are needed, {gpus()} are here")
        return ["--device", DEVICE, "--threads", 1, "--dtype", "f32", "--ranks", ranks]

    def generate(self, ranks, *options, model=None, check=True, input=None):
        return moe("generate", model or self.model, *self.device(ranks), *options, check=check, input=input)

    def numbers_of_ranks(self):
        return CPU_RANKS if DEVICE == "cpu" else [ranks for ranks in CPU_RANKS if ranks <= gpus()]

    def test_the_text_is_that_of_one_rank(self):
        for options in (["--temperature", 0], ["--seed", 3], ["--temperature", 0, "--prompt-lookup", 4],
                        ["--temperature", 0.7, "--repetition-penalty", 1.2, "--top-p", 0.9, "--seed", 8]):
            words = ["--prompt", PROMPT, "--max-new-tokens", 40, *options]
            one = self.generate(1, *words)
            for ranks in self.numbers_of_ranks():
                several = self.generate(ranks, *words)
                self.assertEqual(several.stdout, one.stdout, options)
                self.assertIn(f" on each of {ranks} ranks\n", several.stderr)
                self.assertEqual(several.stderr.count("weights: "), 1, several.stderr)  # rank 0 alone speaks

    def assert_near(self, one, other, least=100):
        numbers = [[], []]
        self.assertEqual(*(without_numbers(side, found) for side, found in zip((one, other), numbers)))
        self.assertGreater(len(numbers[0]), least)
        for a, b in zip(*numbers):
            self.assertAlmostEqual(a, b, delta=1e-4 * max(1, abs(a)))

    def test_many_prompts_and_the_same_bits_each_time(self):
        lines = [{"prompt": PROMPT[:length], "seed": length, "max_new_tokens": 5 + length} for length in range(1, 18)]
        lines.append({"prompt": PROMPT, "continuation": " and more"})
        prompts = self.base / "prompts.jsonl"
        prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
        words = ["--prompts", prompts, "--logprobs", 2]
        answers = [[json.loads(line) for line in self.generate(ranks, *words).stdout.splitlines()] for ranks in (1, 2)]
        self.assertEqual(len(answers[0]), len(lines))
        self.assert_near(*answers)
        again = [self.generate(2, *words).stdout for _ in range(2)]
        self.assertEqual(again[0], again[1])
        self.assertEqual([json.loads(line) for line in again[0].splitlines()], answers[1])

    def test_rank_0_alone_reads_standard_input(self):
        words = ["--temperature", 0, "--max-new-tokens", 10]
        self.assertEqual(self.generate(2, *words, input=PROMPT + "\n").stdout, self.generate(1, *words, "--prompt", PROMPT).stdout)

    def test_blocks_of_a_gguf_file(self):
        sizes = ["model.hidden_size=64", "model.moe_intermediate_size=64", "model.intermediate_size=64", "model.n_routed_experts=6"]
        folder = self.make_model("wide", *sizes)
        for quant in ("q8_0", "q4_0"):
            model = self.base / f"wide-{quant}.gguf"
            moe("convert", folder, model, "--quant", quant)
            # In bf16, which a GPU computes with beside blocks, the order of sums may change a text.
            exact = ["--dtype", "f32"] if DEVICE == "cuda" else []
            texts = [moe("generate", model, "--device", DEVICE, "--threads", 1, "--ranks", ranks, "--prompt", PROMPT, "--temperature", 0,
                         "--max-new-tokens", 12, *exact).stdout for ranks in (1, 2)]
            self.assertEqual(texts[0], texts[1], quant)
            said = self.generate(2, "--prompt", PROMPT, "--max-new-tokens", 1, model=model).stderr
            self.assertIn(" of f32 on ", said)  # --dtype f32 widens them, on every rank

    def test_a_dry_run_tells_what_a_rank_needs(self):
        sizes = ["model.hidden_size=512", "model.moe_intermediate_size=512", "model.n_routed_experts=16", "model.num_attention_heads=8"]
        model = self.make_model("large", *sizes)

        def weights(said, row="weights"):
            return float(re.search(rf"^{row} +([\d.]+) GiB", said, re.MULTILINE)[1])

        one, four = (moe("generate", model, "--device", "cpu", "--dtype", "f32", "--dry-run", "--ranks", ranks).stdout for ranks in (1, 4))
        experts = 2 * 16 * 3 * 512 * 512 * 4 / 2**30  # two layers, three matrices
        self.assertAlmostEqual(weights(four), weights(one) - 0.75 * experts, delta=0.002)
        self.assertEqual(weights(four, "one rank alone"), weights(one))
        self.assertIn("on each of 4 ranks", four)
        self.assertNotIn("ranks", one)
        self.assertEqual(*(re.search(r"^cache .*", said, re.MULTILINE)[0] for said in (one, four)))

    def test_a_chat_is_that_of_one_rank(self):
        lines = ["class A", "/experts", "/mask 1:0,2", "and more", "/experts-per-token 1", "/set temperature 0.5", "again", "/regenerate", "/undo",
                 "/stats"]
        text = "".join(line + "\n" for line in lines)

        def said(ranks):
            out = moe("chat", self.model, "--max-new-tokens", 12, "--seed", 2, *self.device(ranks), input=text).stdout
            return re.sub(r"[\d.]+ tokens/s", "", out)

        one = said(1)
        for ranks in self.numbers_of_ranks():
            self.assertEqual(said(ranks), one)

    def test_the_layers_of_a_dense_model(self):
        """Nothing is added up in another order, so every number is that of one rank."""
        model = self.make_model("layers", "model.method=dense")
        words = ["--prompt", PROMPT, "--max-new-tokens", 30, "--logprobs", 3, "--seed", 4]
        chat, text = "class A\n/set temperature 0.5\nagain\n/regenerate\n", self.base / "headers.jsonl"
        results = []
        for ranks in (1, 2, 3):
            if DEVICE == "cuda" and ranks > gpus():
                continue
            answered = self.generate(ranks, *words, model=model)
            chatted = moe("chat", model, "--max-new-tokens", 12, "--seed", 2, *self.device(ranks), input=chat)
            evaluated = moe("eval", "loss", model, text, "--sequence-length", 64, "--json", "-", *self.device(ranks))
            loss = json.loads(evaluated.stdout)
            del loss["weights"]  # of rank 0 alone
            results.append((answered.stdout, chatted.stdout, loss))
        self.assertGreater(len(results), 1)
        for several in results[1:]:
            self.assertEqual(several, results[0])
        plans = [self.generate(ranks, "--dry-run", model=model).stdout for ranks in (1, 3)]
        layers = [int(re.search(r"of a token; (\d+) layers? of keys", plan)[1]) for plan in plans]
        self.assertEqual(layers, [3, 1])

    def divisions(self):
        """(ranks, ranks that divide the experts) of stages; of one rank first."""
        return [(ranks, experts) for ranks, experts in ((1, 1), (2, 1), (3, 1), (4, 2)) if DEVICE == "cpu" or ranks <= gpus()]

    def test_the_layers_of_a_model_with_experts(self):
        """If each rank has all experts of its layers, every number is that of one rank."""
        answer = ["--prompt", PROMPT, "--max-new-tokens", 30, "--logprobs", 3, "--seed", 4]
        lines = ["class A", "/experts", "/mask 1:0,2", "and more", "/experts-per-token 1", "/set temperature 0.5", "again", "/regenerate", "/stats"]
        chat, text = "".join(line + "\n" for line in lines), self.base / "headers.jsonl"
        results = []
        for ranks, experts in self.divisions():
            layout = ["--expert-parallel", experts]
            answered = self.generate(ranks, *answer, *layout).stdout
            chatted = moe("chat", self.model, "--max-new-tokens", 12, "--seed", 2, *self.device(ranks), *layout, input=chat).stdout
            evaluated = moe("eval", "loss", self.model, text, "--sequence-length", 64, "--json", "-", "--analyse", "--sweep", "mask-best=1",
                            *self.device(ranks), *layout)
            loss = json.loads(evaluated.stdout)
            del loss["weights"]  # of rank 0 alone
            results.append(([json.loads(line) for line in answered.splitlines()], re.sub(r"[\d.]+ tokens/s", "", chatted), loss))
        self.assertGreater(len(results), 1)
        for (ranks, experts), several in zip(self.divisions()[1:], results[1:]):
            if experts == 1:
                self.assertEqual(several, results[0], ranks)
            else:
                self.assertEqual(several[1], results[0][1])
                for place in (0, 2):
                    self.assert_near(results[0][place], several[place], least=20)

    def test_layers_and_experts_of_blocks(self):
        sizes = ["model.hidden_size=64", "model.moe_intermediate_size=64", "model.intermediate_size=64", "model.n_routed_experts=6"]
        folder, model = self.make_model("wide-layers", *sizes), self.base / "wide-layers-q8_0.gguf"
        moe("convert", folder, model, "--quant", "q8_0")
        words = ["--device", DEVICE, "--threads", 1, "--temperature", 0, "--max-new-tokens", 12, "--prompts"]
        prompts = self.base / "block-prompts.jsonl"
        prompts.write_text("".join(json.dumps(PROMPT[:length]) + "\n" for length in range(3, 12)))
        texts = [moe("generate", model, *words, prompts, "--ranks", ranks, "--expert-parallel", experts).stdout
                 for ranks, experts in self.divisions()]
        self.assertEqual(set(texts), {texts[0]})

    def test_a_dry_run_tells_what_each_rank_of_a_layout_has(self):
        def plan(*words):
            said = moe("generate", self.model, "--device", "cpu", "--dtype", "f32", "--dry-run", *words).stdout
            tables = re.findall(r"^  rank .*\n((?:  +\d.*\n)+)", said, re.MULTILINE)
            return said, [[re.split(r"  +", row.strip()) for row in table.splitlines()] for table in tables]

        said, (memory, wire) = plan("--ranks", 4, "--expert-parallel", 2)
        self.assertIn("on the largest of 4 ranks", said)
        self.assertEqual([row[:3] for row in memory], [["0", "0-1", "0-1"], ["1", "0-1", "2-3"], ["2", "2", "0-1"], ["3", "2", "2-3"]])
        self.assertEqual(memory[0][3:5], memory[1][3:5])
        token = 16 * 4 + 16  # the hidden state of a token, in f32, with the header of a message
        self.assertEqual([row[2] for row in wire], [str(token), str(token), "0", "0"])
        self.assertEqual([row[1] for row in wire], [str(token)] * 4)  # each stage has one MoE layer
        self.assertEqual(sum(int(row[4]) for row in wire), sum(int(row[5]) for row in wire))  # what is sent arrives
        self.assertEqual(sum(int(row[6]) for row in wire), sum(int(row[7]) for row in wire))
        _, (memory, wire) = plan("--ranks", 3, "--expert-parallel", 1)
        self.assertEqual([row[:3] for row in memory], [["0", "0", "-"], ["1", "1", "0-3"], ["2", "2", "0-3"]])
        self.assertEqual([row[1] for row in wire], ["0", "0", "0"])
        said, (memory, _) = plan("--ranks", 2)
        self.assertIn("on each of 2 ranks", said)
        self.assertEqual([row[1:3] for row in memory], [["0-2", "0-1"], ["0-2", "2-3"]])

    def test_a_line_that_fails_is_not_the_end_of_a_chat(self):
        result = moe("chat", self.model, "--max-new-tokens", 4, *self.device(2), input="/mask 1:77\n/nonsense\nclass\n", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr.count("error: "), 2, result.stderr)
        one = moe("chat", self.model, "--max-new-tokens", 4, *self.device(1), input="class\n")
        self.assertEqual(result.stdout, one.stdout)

    def test_ctrl_c_stops_an_answer_and_not_the_ranks(self):
        chat = Terminal(self.endless, "--context", 100000, "--temperature", 0, *self.device(2), state=self.base / "state")
        chat.prompt()
        self.assertEqual(len(children_of(chat.process)), 1)
        chat.line("/set max-new-tokens 90000")
        chat.type("class\r")
        chat.expect(r"class\r\n(?s:.){200}")  # it writes
        chat.type("\x03")
        chat.expect(r"\(stopped; the answer so far stays in the conversation\)")
        chat.prompt()
        chat.line("/set max-new-tokens 5")
        chat.line("go on")
        others = children_of(chat.process)
        self.assertEqual(len(others), 1)
        chat.type("\x04")
        self.assertEqual(chat.status(), 0)
        self.assertFalse(pathlib.Path(f"/proc/{others[0]}").exists())

    def test_an_evaluation_is_that_of_one_rank(self):
        text, results = self.base / "headers.jsonl", []
        for ranks in (1, 2):
            documents = self.base / f"documents-{ranks}.jsonl"
            result = moe("eval", "loss", self.model, text, "--sequence-length", 64, "--batch-rows", 3, "--json", "-", "--documents", documents,
                         "--analyse", "--sweep", "experts-per-token=1", *self.device(ranks))
            json_ = json.loads(result.stdout)
            self.assertIn(f" on each of {ranks} ranks\n" if ranks > 1 else "weights: ", result.stderr)
            self.assertEqual(result.stderr.count("weights: "), 1, result.stderr)
            del json_["weights"]  # of a rank
            results.append([json_, *map(json.loads, documents.read_text().splitlines())])
        self.assert_near(*results)
        refused = moe("eval", "loss", self.model, "-", *self.device(2), check=False, input="text")
        self.assertEqual(refused.returncode, 2)
        self.assertEqual(refused.stderr, "error: --ranks 2: every rank reads the text, and standard input can be read once only; name a file\n")

    def test_an_evaluation_that_is_not_finite_says_so_once(self):
        model = self.make_model("large-numbers")
        file = model / "model.safetensors"
        data = bytearray(file.read_bytes())
        begin = 8 + int.from_bytes(data[:8], "little")
        first, last = json.loads(data[8:begin])["model.layers.2.mlp.experts.3.down_proj.weight"]["data_offsets"]
        for at in range(begin + first, begin + last, 4):  # of an expert that rank 0 does not have
            data[at:at + 4] = struct.pack("<f", 3e38)
        file.write_bytes(data)
        (model / "checksums.json").unlink(missing_ok=True)
        results = [moe("eval", "loss", model, self.base / "headers.jsonl", "--sequence-length", 64, *self.device(ranks), "--expert-parallel",
                       experts, check=False)
                   for ranks, experts in [(2, 2), *self.divisions()] if ranks <= max(self.numbers_of_ranks())]
        self.assertGreater(len(results), 1)
        for result in results:
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertEqual(result.stderr.count("error:"), 1, result.stderr)
            self.assertEqual(result.stderr.partition("error:")[2], results[1].stderr.partition("error:")[2])  # of one rank

    def test_a_rank_that_is_killed_gives_the_terminal_back(self):
        chat = Terminal(self.endless, *self.device(2), state=self.base / "state")
        before = termios.tcgetattr(chat.master)
        chat.prompt()
        chat.type("half a line")
        chat.expect("half a line")
        modes = termios.ICANON | termios.ECHO
        self.assertNotEqual(termios.tcgetattr(chat.master)[3] & modes, before[3] & modes)
        os.kill(children_of(chat.process)[0], signal.SIGKILL)
        chat.expect(r"\x1b\[\?2004l\s*")
        chat.expect(r"error: rank 1 on \S+ ended: it was killed, or its connection broke\r\n")
        self.assertEqual(termios.tcgetattr(chat.master)[3] & modes, before[3] & modes)
        self.assertEqual(chat.status(), LOST)

    def start(self, ranks, *words, **more):
        command = [MOE, *words, *self.device(ranks)]
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   **{"stdin": subprocess.DEVNULL, **more})

        def clean_up():
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

        self.addCleanup(clean_up)
        return process

    def generating(self, ranks, *layout):
        """A process that has begun to write a very long text, and the processes of its other ranks."""
        process = self.start(ranks, "generate", self.endless, "--prompt", PROMPT, "--temperature", 0, "--max-new-tokens", 90000, *layout)
        self.assertTrue(process.stdout.read(30))
        others = children_of(process.pid)
        self.assertEqual(len(others), ranks - 1)
        return process, others

    def ended(self, process, others):
        """What it said; all of them must have ended within 20 seconds."""
        began = time.monotonic()
        said = process.communicate(timeout=60)[1]
        while any(pathlib.Path(f"/proc/{other}").exists() for other in others) and time.monotonic() - began < 30:
            time.sleep(0.05)
        self.assertLess(time.monotonic() - began, 20)
        return said

    def test_a_rank_that_is_killed_ends_all(self):
        for rank in range(1, min(3, max(self.numbers_of_ranks()))):
            process, others = self.generating(max(self.numbers_of_ranks()))
            os.kill(others[rank - 1], signal.SIGKILL)
            said = self.ended(process, others)
            self.assertEqual(process.returncode, LOST, said)
            self.assertRegex(said, rf"error: rank \d on {socket.gethostname()} ended: it was killed, or its connection broke\n")
            self.assertEqual(said.count("error:"), 1, said)

    def test_a_rank_of_a_stage_that_is_killed_ends_all(self):
        for ranks, experts in self.divisions()[-2:]:
            if ranks == 1:
                continue
            process, others = self.generating(ranks, "--expert-parallel", experts)
            os.kill(others[-1], signal.SIGKILL)
            said = self.ended(process, others)
            self.assertEqual(process.returncode, LOST, said)
            self.assertRegex(said, rf"error: rank {ranks - 1} on \S+ ended: it was killed, or its connection broke\n")
            self.assertEqual(said.count("error:"), 1, said)

    def test_a_rank_that_stops_answering_ends_all(self):
        process, others = self.generating(2)
        os.kill(others[0], signal.SIGSTOP)
        said = self.ended(process, others)
        self.assertEqual(process.returncode, LOST, said)
        self.assertRegex(said, r"error: rank 1 on \S+ ended: it has not answered for 10 s\n")

    def test_the_loss_of_rank_0_is_told_by_the_others(self):
        process, others = self.generating(2)
        process.kill()
        said = self.ended(process, others)
        self.assertRegex(said, r"error: rank 1 on \S+: rank 0 on \S+ ended: it was killed, or its connection broke")

    def test_a_rank_that_is_killed_ends_a_chat_that_waits(self):
        process = self.start(2, "chat", self.model, "--max-new-tokens", 3, stdin=subprocess.PIPE)
        process.stdin.write("class\n")
        process.stdin.flush()
        self.assertTrue(process.stdout.readline())
        others = children_of(process.pid)
        os.kill(others[0], signal.SIGKILL)
        began = time.monotonic()
        process.wait(timeout=60)  # its standard input stays open
        self.assertLess(time.monotonic() - began, 20)
        said = process.stderr.read()
        self.assertEqual(process.returncode, LOST, said)
        self.assertRegex(said, r"error: rank 1 on \S+ ended: it was killed, or its connection broke\n")
        self.assertEqual(said.count("error:"), 1, said)

    def test_a_chat_does_not_go_on_without_a_rank(self):
        process = self.start(2, "chat", self.endless, "--max-new-tokens", 90000, "--context", 100000, stdin=subprocess.PIPE)
        process.stdin.write("class\nand another\n")
        process.stdin.flush()
        self.assertTrue(process.stdout.read(30))
        os.kill(children_of(process.pid)[0], signal.SIGKILL)
        said = self.ended(process, [])
        self.assertEqual(process.returncode, LOST, said)
        self.assertEqual(said.count("error:"), 1, said)

    def test_ctrl_c_ends_all_at_once_and_says_nothing(self):
        process, others = self.generating(2)
        process.send_signal(signal.SIGINT)
        said = self.ended(process, others)
        self.assertEqual(process.returncode, 130, said)
        self.assertNotIn("error", said)

    def test_a_signal_or_a_closed_pipe_ends_all_and_says_nothing(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            process, others = self.generating(2)
            if number == signal.SIGPIPE:
                process.stdout.close()  # as `| head` does
                process.stdout = None
            else:
                process.send_signal(number)
            said = self.ended(process, others)
            self.assertEqual(process.returncode, -number, said)
            self.assertNotIn("error", said)

    def launched(self, words, change=(), ranks=2):
        """The ranks as a launcher starts them; `change` are further words of the last one."""
        port, processes = free_port(), []
        for rank in range(ranks):
            variables = {"RANK": rank, "WORLD_SIZE": ranks, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1",
                         "MASTER_PORT": port}
            command = [MOE, *words, *(change if rank == ranks - 1 else [])]
            processes.append(subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                              stdin=subprocess.DEVNULL,
                                              env={**os.environ, **{name: str(value) for name, value in variables.items()}}))
        return [(*process.communicate(timeout=120), process.returncode) for process in processes]

    def test_a_launcher_starts_the_ranks(self):
        words = ["generate", self.model, "--prompt", PROMPT, "--temperature", 0, "--max-new-tokens", 10, "--device", DEVICE, "--dtype", "f32"]
        one = moe(*words).stdout
        self.assertEqual([(out, said == "", status) for out, said, status in self.launched([*words, *self.device(2)[-2:]])],
                         [(one, False, 0), ("", True, 0)])
        # Without --ranks they have nothing to do with each other.
        self.assertEqual([(out, status) for out, _, status in self.launched(words)], [(one, 0), (one, 0)])

    def test_ranks_with_other_options_do_not_begin(self):
        words = ["generate", self.model, "--prompt", PROMPT, *self.device(2)]
        (_, said, status), (_, other, other_status) = self.launched(words, ["--experts-per-token", 1])
        self.assertEqual((status, other_status), (1, 1), said + other)
        self.assertIn("error: the command line of rank 1 on ", said)
        self.assertEqual(other, "")

    def test_what_ranks_cannot_do_is_refused_by_name(self):
        dense = self.make_model("dense", "model.method=dense")
        for command in ("generate", "chat"):
            for model, more, expected in (
                    (self.model, ["--ranks", 3],
                     r"--ranks 3: \S+/model has 4 routed experts, which so many ranks cannot divide evenly; use 2 or 4, or --expert-parallel 1"),
                    (self.model, ["--ranks", 6, "--expert-parallel", 3],
                     r"--expert-parallel 3: \S+/model has 4 routed experts, which so many ranks cannot divide evenly; use 2 or 4, or 1"),
                    (self.model, ["--ranks", 4, "--expert-parallel", 3], "--expert-parallel 3: there are 4 ranks, expected a multiple of 3"),
                    (self.model, ["--expert-parallel", 2], "--expert-parallel 2: there is 1 rank, expected a multiple of 2"),
                    (self.model, ["--ranks", 4, "--expert-parallel", 1],
                     r"--ranks 4: \S+/model has 3 layers, of which each rank needs one; use --ranks 3"),
                    (self.model, ["--ranks", 8, "--expert-parallel", 2],
                     r"--ranks 8 with --expert-parallel 2: \S+/model has 3 layers, and each of 4 stages needs one; use at most --ranks 6"),
                    (dense, ["--ranks", 2, "--expert-parallel", 2],
                     r"--expert-parallel 2: \S+/dense has no routed experts; leave the option out"),
                    (self.model, ["--ranks", 2, "--expert-parallel", 0], "--expert-parallel"),
                    (dense, ["--ranks", 4], r"--ranks 4: \S+/dense has no routed experts and 3 layers, of which each rank needs one; use --ranks 3"),
                    (self.model, ["--ranks", 2, "--cpu-moe"],
                     "--ranks 2 with --cpu-moe: ranks keep their routed experts on their own devices; leave out one of the two"),
                    (self.model, ["--ranks", 2, "--n-cpu-moe", 1], "--ranks 2 with --n-cpu-moe: "),
                    (self.model, ["--ranks", 0], "--ranks")):
                result = moe(command, model, "--device", "cpu", *more, check=False, input="class\n")
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertRegex(result.stderr, "^error: .*" + expected)
                self.assertEqual(result.stderr.count("\n"), 1, result.stderr)

    def test_a_mistake_is_said_once_before_others_are_started(self):
        result = self.generate(2, "--prompt", PROMPT, "--context", 2, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr.count("error:"), 1, result.stderr)

    def test_ranks_without_a_gpu_each_are_refused(self):
        few = gpus() + 1 if DEVICE == "cuda" else 2
        result = moe("generate", self.model, "--device", "cuda", "--ranks", few, "--prompt", PROMPT, check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertEqual(result.stderr.count("error:"), 1, result.stderr)
        if DEVICE == "cuda":
            self.assertIn(f"--device cuda: {few} ranks on this machine need a GPU each, and it has {gpus()}", result.stderr)
        else:
            self.assertRegex(result.stderr, "error: --device cuda: .*; or use --device cpu")


if __name__ == "__main__":
    if DEVICE == "cuda" and gpus() < 2:
        print(f"skipped: two GPUs are needed, {gpus()} are here")
        sys.exit(SKIPPED)
    unittest.main()
