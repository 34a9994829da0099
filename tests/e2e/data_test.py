"""moe data, moe tokenizer train and what reads their datasets, as a user types them.

Usage: data_test.py PATH_OF_MOE
"""

import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

from support import MOE, ROOT, log_without_times, make_dataset, moe

RUN_FILE = """
[data]
sequence_length = 32
rows_per_step = 4
[model]
hidden_size = 24
num_hidden_layers = 2
num_attention_heads = 2
n_shared_experts = 1
n_routed_experts = 6
num_experts_per_tok = 2
moe_intermediate_size = 16
max_position_embeddings = 32
[train]
steps = 4
[eval]
every = 2
"""


def lines(*texts, field="text"):
    return "".join(json.dumps({field: text}) + "\n" for text in texts)


class DataTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = pathlib.Path(tempfile.mkdtemp(prefix="moe-data-test-"))
        cls.texts = [path.read_text()[:2000] for path in sorted((ROOT / "src/base").glob("*.h"))]
        make_dataset(cls.shared, {"headers": cls.texts}, vocab_size=400)
        (cls.shared / "run.toml").write_text(RUN_FILE)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.shared)

    def setUp(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="case-", dir=self.shared))

    def data(self, *arguments, out="out", check=True, tokenizer=None, input=None):
        return moe("data", "--tokenizer", tokenizer or self.shared / "tokenizer", "--out", f"{self.base}/{out}",
                   *arguments, check=check, input=input)

    def test_conversations_learn_answers_alone(self):
        chats = self.base / "chats.jsonl"
        turns = [{"role": "user", "content": "int x"}, {"role": "assistant", "content": "class y"}]
        chats.write_text(json.dumps({"messages": turns}) + "\n" + json.dumps({"instruction": "int", "output": "z"}) + "\n")
        said = self.data("--chat", "--show", 2, chats)
        self.assertIn("wrote ", said.stderr)
        self.assertRegex(said.stdout, r"conversation 0: \d+ tokens, \d+ learned\n +id token +label +weight\n")
        self.assertRegex(said.stdout, r"(?m)^ +0 <｜begin▁of▁sentence｜> +- +0$")
        self.assertRegex(said.stdout, r"(?m)^ +1 <｜end▁of▁sentence｜> +1 +1$")
        self.assertIn("Assistant:", (self.base / "out/chat_template.jinja").read_text())
        again = self.data("--chat", chats, out="again", tokenizer=self.base / "out")
        self.assertNotIn("has no chat template", again.stderr)
        self.assertEqual((self.base / "again/tokens-00000.bin").read_bytes(), (self.base / "out/tokens-00000.bin").read_bytes())
        for options, sentence in [
            (["--max-tokens", 9], "--max-tokens belongs to conversations: give --chat, too"),
            (["--chat", "--max-tokens", 3], "no learned answer ends within 3 tokens; raise --max-tokens"),
            (["--chat", "--format", "deepseek-instruct"], "it has no special token <|EOT|>"),
        ]:
            refused = self.data(*options, chats, out="refused", check=False)
            self.assertIn(sentence, refused.stderr)
            self.assertFalse((self.base / "refused").exists())
        chats.write_text('{"text": "a"}\n')
        self.assertIn("chats.jsonl:1: it has no conversation", self.data("--chat", chats, out="refused", check=False).stderr)

    def test_the_published_scripts_format_has_these_ids_and_marks(self):
        """The text of DeepSeekMoE's fine-tuning script, built here; with one token a byte, there is one way to cut it."""
        plain = self.base / "plain.txt"
        plain.write_text("a b\n")
        moe("tokenizer", "train", "--vocab-size", 275, "--out", self.base / "bytes", plain)
        bos, first_byte, eot = 0, 19, 275
        turns = [[("  Add é\n", "3")], [("Q", " A "), ("R\n### Response:\n", "### Response:\n4")]]
        chats = self.base / "chats.jsonl"
        chats.write_text("".join(json.dumps({"messages": [
            {"role": role, "content": text} for turn in chat for role, text in zip(("user", "assistant"), turn)]}) + "\n"
            for chat in turns))
        said = self.data("--chat", "--format", "deepseek-instruct", "--new-tokens", "<|EOT|>", "--show", 2, chats,
                         tokenizer=self.base / "bytes").stdout
        for number, chat in enumerate(turns):
            expected = [(bos, 0)]
            for question, answer in chat:
                prompt = ("You are an AI assistant, developed by DeepSeek Company. For politically sensitive questions, "
                          "security and privacy issues, you will refuse to answer.\n### Instruction:\n"
                          f"{question.strip()}\n### Response:\n")
                expected += [(first_byte + byte, 0) for byte in prompt.encode()]
                expected += [(first_byte + byte, 1) for byte in f"{answer}\n".encode()] + [(eot, 1)]
            shown = said.split(f"conversation {number}: ")[1].split("\n\n")[0]
            rows = re.findall(r"(?m)^ *(\d+) .* (-|\d+) +([01])$", shown)
            self.assertEqual([(int(id), int(weight)) for id, _, weight in rows], expected)
            self.assertEqual([label for _, label, _ in rows], [str(id) if learned else "-" for id, learned in expected])

    def test_preferences_are_pairs_of_conversations(self):
        pairs = self.base / "pairs.jsonl"
        one = {"prompt": "int x", "chosen": "class y", "rejected": "z"}
        long = {"prompt": "int x", "chosen": "class y " * 30, "rejected": "z"}
        pairs.write_text("".join(json.dumps(line) + "\n" for line in (one, long, {**one, "prompt": "class"})))
        said = self.data("--preferences", "--max-tokens", 60, "--show", 2, pairs)
        self.assertIn("1 pair left out: the two conversations of each have more than 60 tokens", said.stderr)
        description = json.loads((self.base / "out/dataset.json").read_text())
        self.assertTrue(description["pairs"])
        self.assertEqual(description["documents"], 4)
        self.assertEqual(description["answer_ends"], [1])
        self.assertIn("conversation 1: ", said.stdout)
        for options, sentence in [
            (["--preferences", "--chat"], "--chat and --preferences read different files; give one"),
            (["--preferences", "--answers", "last"], "of a preference the last answer is learned"),
            (["--preferences", "--max-tokens", 3], "no pair can be used; raise --max-tokens"),
            (["--chat"], "pairs.jsonl:1: it has no conversation"),
        ]:
            refused = self.data(*options, pairs, out="refused", check=False)
            self.assertIn(sentence, refused.stderr)
            self.assertFalse((self.base / "refused").exists())

    def test_new_tokens_grow_the_datasets_tokenizer(self):
        template = self.file("chatml.jinja", "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
                             "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
        chats = self.file("chats.jsonl", json.dumps({"prompt": "int x", "completion": "class y"}) + "\n")
        tokens = ["--new-tokens", "<|im_start|>", "--new-tokens", "<|im_end|>"]
        said = self.data("--chat", "--template", template, *tokens, "--show", 1, chats)
        base = json.loads((self.shared / "tokenizer/tokenizer.json").read_text())
        before = 1 + max([*base["model"]["vocab"].values(), *(token["id"] for token in base["added_tokens"])])
        description = json.loads((self.base / "out/dataset.json").read_text())
        self.assertEqual(description["vocab_size"], before + 2)
        self.assertEqual(description["base_tokenizer"]["ids"], before)
        self.assertEqual(description["answer_ends"], [before + 1])
        self.assertRegex(said.stdout, rf"(?m)^ +{before} <\|im_start\|> +- +0$")
        self.assertRegex(said.stdout, rf"(?m)^ +{before + 1} <\|im_end\|> +{before + 1} +1$")
        refused = self.data("--new-tokens", "<a>", chats, out="refused", check=False)
        self.assertIn("--new-tokens belongs to conversations: give --chat, too", refused.stderr)
        refused = self.data("--chat", "--new-tokens", "<a>", "--new-tokens", "<a>", chats, out="refused", check=False)
        self.assertIn("the new token <a> is given twice", refused.stderr)

    def test_a_template_without_an_end_is_told_before_the_work(self):
        answers = [f"one<｜end▁of▁sentence｜>two {i}" for i in range(3)]  # the text of EOS does not end an answer
        chats = self.file("chats.jsonl", "".join(json.dumps({"prompt": "int x", "completion": each}) + "\n" for each in answers))
        turns = "{% for m in messages %}{{ m.role }}: {{ m.content }}%s{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
        template = self.file("plain.jinja", turns.replace("%s", "{{ '\n' }}"))
        warning = f"warning: {template} puts no special token after an answer, so each answer ends with EOS, <｜end▁of▁sentence｜>\n"
        said = self.data("--chat", "--template", template, "--show", 3, chats)
        self.assertEqual(said.stderr.count("warning: "), 1, said.stderr)
        self.assertTrue(said.stderr.startswith(warning), said.stderr)
        self.assertNotIn("EOS was added", said.stderr)
        for number in range(3):
            rows = re.findall(r"(?m)^ *(\d+) .* (-|\d+) +([01])$", said.stdout.split(f"conversation {number}: ")[1].split("\n\n")[0])
            first = next(i for i, row in enumerate(rows) if row[2] == "1")
            self.assertEqual({row[2] for row in rows[first:]}, {"1"}, "all that follows the prompt is learned")
            self.assertEqual([row[0] for row in rows[first:]].count("1"), 2, "the text of EOS, and EOS")
            self.assertEqual(rows[-1][:2], ("1", "1"))
        refused = self.data("--chat", "--template", template, self.file("bad.jsonl", "{}\n"), out="refused", check=False)
        self.assertTrue(refused.stderr.startswith(warning), "it comes before the work")
        ended = self.file("ended.jinja", turns.replace("%s", "{{ eos_token }}"))
        self.assertNotIn("warning: ", self.data("--chat", "--template", ended, chats, out="ended").stderr)
        first = self.file("first.jinja", turns.replace("%s", "{% if loop.index == 2 %}{{ eos_token }}{% endif %}"))
        two = {"messages": [{"role": role, "content": "x"} for role in ("user", "assistant") * 2]}
        said = self.data("--chat", "--template", first, self.file("two.jsonl", json.dumps(two) + "\n"), out="first").stderr
        self.assertNotIn("warning: ", said)
        self.assertIn("the template puts no special token after 1 answer, so EOS was added there", said)

    def file(self, name, content):
        path = self.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def description(self, out="out"):
        return json.loads((self.base / out / "dataset.json").read_text())

    def domains(self, out="out"):
        return {domain["name"]: domain["documents"] for domain in self.description(out)["domains"]}

    def refused(self, *arguments, out="out", status=1, **more):
        """The one sentence of an error, after which nothing new is in the folder."""
        before = sorted(self.base.rglob("*"))
        result = self.data(*arguments, out=out, check=False, **more)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(sorted(self.base.rglob("*")), before)
        for word in ("json.exception", "filesystem error", "stoull", "bad_alloc", "terminate"):
            self.assertNotIn(word, result.stderr)
        return result.stderr

    def test_where_the_result_goes_is_checked_before_the_work(self):
        text = self.file("text.jsonl", lines("one", "two"))
        bad = self.file("bad.jsonl", "nonsense\n")  # an error of the output path comes before that of the input
        self.file("a-file", "x")
        self.assertIn("there is a file of that name", self.refused(bad, out="a-file"))
        self.assertIn("not a folder", self.refused(bad, out="a-file/out"))
        self.data(text, out="with/parents/")
        self.assertEqual(self.description("with/parents")["documents"], 2)
        self.assertIn("exists already", self.refused(bad, out="with/parents"))
        self.assertEqual(self.description("with/parents")["documents"], 2)
        self.assertIn("does not exist", moe("eval", "loss", "none", text, "--json", self.base / "no/scores.json",
                                            check=False).stderr)
        for out, expected in ((self.base, "it is a folder"), (f"{self.base}/new/", "ends in a slash")):
            self.assertIn(expected, moe("logits", "none", "--tokens", "1", "--out", out, check=False).stderr)
        self.assertIn("there is a file", moe("tokenizer", "train", "--out", self.base / "a-file", bad,
                                             check=False).stderr)

    def test_nobodys_files_are_touched_and_a_killed_run_is_swept(self):
        text = self.file("text.jsonl", lines("one", "two"))
        precious = self.file("out.tmp/notes.txt", "precious")
        self.data(text)
        self.assertEqual(precious.read_text(), "precious")
        slow = self.base / "slow.jsonl"
        os.mkfifo(slow)
        process = subprocess.Popen([MOE, "data", "--tokenizer", self.shared / "tokenizer", "--out", self.base / "two",
                                    slow], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        with open(slow, "w") as pipe:  # opens when the other side reads: the temporary folder is there by then
            pipe.write(lines("one"))
            pipe.flush()
            self.assertEqual(len(list(self.base.glob("two.moe-*"))), 1)
            self.assertIn("another process", self.refused(text, out="two"))
            self.data(text, out="three")
            self.assertEqual(len(list(self.base.glob("two.moe-*"))), 1, "of a living process")
            process.send_signal(signal.SIGKILL)
            process.wait()
        self.assertEqual(len(list(self.base.glob("two.moe-*"))), 1)
        self.data(text, out="two")
        self.assertEqual(list(self.base.glob("*.moe-*")), [])

    def test_a_full_disk_leaves_nothing(self):
        text = self.file("text.jsonl", lines(*self.texts * 20))
        limit = "ulimit -f 1; trap '' XFSZ; exec \"$@\""  # in blocks of 512 or 1024 bytes
        command = [MOE, "data", "--tokenizer", self.shared / "tokenizer", "--out", self.base / "out", text]
        result = subprocess.run(["sh", "-c", limit, "sh", *map(str, command)], capture_output=True, text=True)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("cannot write", result.stderr)
        self.assertEqual([path.name for path in self.base.iterdir()], ["text.jsonl"])

    def test_a_limit_on_the_size_of_files_is_a_sentence(self):
        text = self.file("text.jsonl", lines(*self.texts * 20))
        for command in (["data", "--tokenizer", self.shared / "tokenizer", "--out", self.base / "out", text],
                        ["tokenizer", "train", "--vocab-size", 400, "--out", self.base / "tok", text]):
            result = subprocess.run(["sh", "-c", "ulimit -f 1; exec \"$@\"", "sh", MOE, *map(str, command)],
                                    capture_output=True, text=True)
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertIn("cannot write", result.stderr)
        self.assertFalse((self.base / "out").exists())

    def test_a_pipe_in_a_folder_is_refused_by_name(self):
        self.file("folder/a.txt", "some text\n")
        os.mkfifo(self.base / "folder" / "pipe.txt")
        for what in (self.base / "folder", f"{self.base}/folder/*.txt"):
            self.assertIn("pipe.txt is a pipe or a device", self.refused(what, status=2))

    def test_a_link_is_followed_and_one_that_leads_nowhere_is_refused_first(self):
        text = self.file("text.jsonl", lines("one", "two"))
        (self.base / "real").mkdir()
        os.symlink("real", self.base / "link")
        self.data(text, out="link")
        self.assertTrue((self.base / "link").is_symlink())
        self.assertEqual(self.description("real")["documents"], 2)
        os.symlink("gone", self.base / "dangling")
        self.assertIn("leads nowhere", self.refused(self.file("bad.jsonl", "nonsense"), out="dangling"))

    def test_what_is_skipped_is_listed_where_nothing_is_left_too(self):
        bad = self.file("bad.jsonl", "nonsense\n")
        said = self.refused(bad, "--on-error", "skip")
        self.assertIn(f"{bad}:1: ", said)
        self.assertIn("there is no document", said)
        train = moe("tokenizer", "train", "--on-error", "skip", "--out", self.base / "tok", bad, check=False)
        self.assertEqual(train.returncode, 1)
        self.assertIn(f"{bad}:1: ", train.stderr)
        self.assertIn("there is no text", train.stderr)
        self.assertFalse((self.base / "tok").exists())

    def test_an_empty_part_is_a_warning_and_a_missing_file_is_known_first(self):
        empty, text = self.file("part-0.jsonl", ""), self.file("part-1.jsonl", lines("one"))
        packed = self.file("part-2.jsonl.gz", "")
        said = self.data(empty, text, packed).stderr
        self.assertIn(f"{empty} holds no document", said)
        self.assertIn(f"{packed} holds no document", said)
        self.assertEqual(self.description()["documents"], 1)
        moe("tokenizer", "train", "--vocab-size", 280, "--out", self.base / "tok", empty, text)
        self.assertIn("no such file", self.refused(self.file("bad.jsonl", "nonsense"), self.base / "none.txt", out="b"))

    def test_nul_bytes_lose_no_document(self):
        gap = self.file("gap.jsonl", lines("one").encode() + lines("two").strip().encode() + b"\0" * 50
                        + lines("three").encode() + lines("four").encode())
        self.assertIn(f"{gap}:2: this line is not valid JSON", self.refused(gap))
        result = self.data(gap, "--on-error", "skip")
        self.assertIn("1 document or part of a file could not be read and was skipped", result.stderr)
        self.assertIn(f"{gap}:2: ", result.stderr)
        self.assertEqual(self.description()["documents"], 2)

    def test_bad_lines_are_skipped_on_demand_by_every_reader(self):
        bad = self.file("bad.jsonl", lines("a text of some words") + "nonsense\n" + lines("another text", field="body"))
        self.assertIn(f"{bad}:2: ", self.refused(bad))
        for command in (["data", "--tokenizer", self.shared / "tokenizer", "--out", self.base / "out"],
                        ["tokenizer", "train", "--vocab-size", 280, "--out", self.base / "tok"]):
            result = moe(*command, "--on-error", "skip", bad)
            self.assertIn("2 documents or parts of files could not be read", result.stderr)
            self.assertIn(f"{bad}:2: ", result.stderr)
            self.assertIn(f"{bad}:3: ", result.stderr)
        self.data(bad, "--field", "body", "--on-error", "skip", out="body")
        self.assertEqual(self.description("body")["documents"], 1)

    def test_what_can_be_read_of_damaged_files_is_kept(self):
        text = "".join(json.dumps({"text": f"document {i}, a text of some words"}) + "\n" for i in range(20000)).encode()
        packed = gzip.compress(text)
        damaged = self.file("cut.jsonl.gz", packed[: len(packed) // 2])
        wrong_sum = self.file("sum.jsonl.gz", packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:])
        mixed = self.file("list.json", '[{"text": "one of three"}, 5, {"text": "two of three"}, null, {"text": "three of three"}]')
        for bad in (damaged, wrong_sum, mixed):
            self.assertIn(str(bad), self.refused(bad))
        said = self.data(damaged, wrong_sum, mixed, "--on-error", "skip").stderr
        self.assertIn("4 documents or parts of files could not be read and were skipped", said)
        for place in (f"{damaged} is cut short", f"{wrong_sum} is damaged", f"{mixed}:1: this is not a JSON object but a number",
                      f"{mixed}:1: this is not a JSON object but null"):
            self.assertIn(place, said)
        documents = self.description()["documents"]
        self.assertGreater(documents, 20000 + 5000)
        self.assertLess(documents, 20000 + 20000)
        train = moe("tokenizer", "train", "--vocab-size", 300, "--on-error", "skip", "--out", self.base / "tok", damaged, mixed)
        self.assertIn("3 documents or parts of files could not be read", train.stderr)

    def test_names_with_control_characters_break_no_line(self):
        text = self.file("one\ntwo\x1b[31m.jsonl", lines("a text", "another"))
        self.assertIn("--domain \"a\\nb\": the name has a control character", self.refused("--domain", f"a\nb={text}", status=2))
        result = self.data(text)
        self.assertEqual([domain["name"] for domain in self.description()["domains"]], ["one\ufffdtwo\ufffd[31m"])
        self.assertNotIn("\x1b", result.stdout + result.stderr)
        bad = self.file("bad\x1b[31m.jsonl", "nonsense\n")
        self.assertNotIn("\x1b", self.refused(bad, out="bad"))

    def test_a_plain_list_of_datasets_sees_each_document_equally_often(self):
        for name, count in (("a", 30), ("b", 90)):
            self.data(self.file(f"{name}.jsonl", lines(*(f"{name} document {i % 10} with words" for i in range(count)))), out=name)
        run_file = self.base / "run.toml"
        for listed in (f'["{self.base}/a", "{self.base}/b"]', f'[\n  "{self.base}/a",\n  "{self.base}/b",\n]'):
            run_file.write_text((self.shared / "run.toml").read_text().replace("[data]", f"[data]\ntrain = {listed}"))
            folder = self.base / f"run-{len(listed)}"
            said = moe("train", run_file, "--set", f"run.dir={folder}", "--set", "train.steps=12").stderr
            epochs = [float(number) for number in re.findall(r"([0-9.]+) over \S+/[ab]\b", said)]
            self.assertEqual(len(epochs), 2, said)
            self.assertAlmostEqual(epochs[0], epochs[1], delta=0.25 * epochs[1])
            self.assertIn(f'train = ["{self.base}/a", "{self.base}/b"]', (folder / "run.toml").read_text())

    def test_compare_takes_folders_and_patterns_as_text(self):
        self.file("texts/a.txt", "some words\n")
        self.file("texts/list.json", json.dumps(["one text", {"text": "another"}]))
        for what in (self.base / "texts", f"{self.base}/texts/*.txt", self.base / "texts" / "list.json"):
            result = moe("tokenizer", "compare", self.shared / "tokenizer", what)
            self.assertIn("bytes per token", result.stdout)
        body = self.file("body.jsonl", lines("some words", field="body") + "nonsense\n")
        empty = self.file("empty.txt", "")
        for command in (["compare"], ["bench", "tokenizer", "--repeats", 1, "--tokenizer"]):
            command = (["tokenizer", *command] if command == ["compare"] else command) + [self.shared / "tokenizer"]
            self.assertIn('--field', moe(*command, body, check=False).stderr)
            said = moe(*command, body, empty, "--field", "body", "--on-error", "skip").stderr
            self.assertIn(f"{empty} holds no document", said)
            self.assertIn("1 document or part of a file could not be read", said)
        nothing = moe("bench", "tokenizer", "--tokenizer", self.shared / "tokenizer", empty, check=False)
        self.assertEqual(nothing.returncode, 1)
        self.assertIn("there is no text to encode", nothing.stderr)
        result = moe("tokenizer", "compare", self.shared / "tokenizer" / "tokenizer.json", self.base / "texts", "--json")
        self.assertEqual(len(json.loads(result.stdout)["tokenizers"]), 1)

    def test_a_folder_of_another_kind_is_no_model(self):
        self.data(self.file("text.jsonl", lines("one", "two")))
        for folder, kind in ((self.base / "out", "is a dataset"), (self.shared / "tokenizer", "is the folder of a tokenizer")):
            for command in (["generate", folder], ["inspect", folder], ["eval", "loss", folder, self.base / "text.jsonl"]):
                result = moe(*command, check=False)
                self.assertEqual(result.returncode, 1, result.stderr)
                self.assertIn(f"{folder} {kind}, expected a model", result.stderr)

    def test_empty_documents_are_counted(self):
        text = self.file("text.jsonl", lines("one", "", "two") + "\n" + lines(""))
        for command in (["data", "--tokenizer", self.shared / "tokenizer", "--out", self.base / "out"],
                        ["tokenizer", "train", "--vocab-size", 280, "--out", self.base / "tok"]):
            self.assertIn(f"2 documents are empty and were left out; the first is {text}:2\n", moe(*command, text).stderr)
        self.assertEqual(self.description()["documents"], 2)

    def test_a_file_that_is_named_twice_is_a_warning(self):
        text = self.file("folder/text.jsonl", lines("one", "two"))
        other = self.file("folder/other.jsonl", lines("three"))
        os.link(text, self.base / "hard.jsonl")
        os.symlink(text, self.base / "soft.jsonl")
        for i, (again, name) in enumerate(((text, text), (self.base / "hard.jsonl", f"{text} (also as {self.base}/hard.jsonl)"),
                                           (self.base / "soft.jsonl", f"{text} (also as {self.base}/soft.jsonl)"),
                                           (self.base / "folder", text), (f"{self.base}/*/text.jsonl", text))):
            said = self.data(text, again, out=f"out-{i}").stderr
            self.assertEqual(said.count("more than once,"), 1, said)
            self.assertIn(f"{name} is named more than once, so", said)
        self.assertIn("is named more than once, like 1 other files, so", self.data(text.parent, text, other, out="both").stderr)
        self.assertNotIn("more than once", self.data(text, other, out="once").stderr)

    def test_names_that_are_not_utf_8_are_shown_with_a_replacement(self):
        name = os.fsencode(self.base) + b"/caf\xe9.jsonl"
        pathlib.Path(os.fsdecode(name)).write_text(lines("one"))
        command = [os.fsencode(MOE), b"data", b"--tokenizer", os.fsencode(self.shared / "tokenizer"), b"--out",
                   os.fsencode(self.base / "out"), name]
        result = subprocess.run(command, capture_output=True)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.domains(), {"caf\ufffd": 1})
        result = subprocess.run([*command[:-2], b"other", b"--domain", b"\xff=" + name], capture_output=True)
        self.assertEqual(result.returncode, 2)
        self.assertIn("the name is not UTF-8", result.stderr.decode())
        result = subprocess.run([*command[:-2], b"other", b"--field", b"x" * 100000, name], capture_output=True)
        self.assertIn("bytes left out", result.stderr.decode())
        self.assertLess(len(result.stderr), 5000)

    def test_folders_patterns_lists_and_standard_input(self):
        self.file("texts/a.md", "# A title")
        self.file("texts/sub/b.py", "print('hello')")
        self.file("texts/sub/c.jsonl.gz", gzip.compress(lines("three", "four").encode()))
        self.file("texts/d.json", json.dumps([{"text": "five"}, "six"]))
        self.file("texts/picture.png", b"\x89PNG")
        result = self.data(self.base / "texts/", "--domain", f"some={self.base}/texts/**/*.py")
        self.assertEqual(self.domains(), {"texts": 6, "some": 1})
        self.assertIn("1 .png", result.stderr)
        self.data(self.base / "texts/*.md", out="two")
        self.assertEqual(self.domains("two"), {"texts": 1})
        self.data("-", out="three", input=lines("one", "two"))
        self.assertEqual(self.domains("three"), {"stdin": 2})
        self.data("--domain", "mine=-", out="four", input="A text.\nNot JSON.\n")
        self.assertEqual(self.domains("four"), {"mine": 1})
        parquet = self.file("texts/e.parquet", b"PAR1")
        self.assertIn("convert it first: python3 -c", self.refused(self.base / "texts", out="five", status=2))
        self.assertIn("convert it first: python3 -c", self.refused(parquet, out="five", status=2))

    def test_utf_16_is_read_as_what_it_says(self):
        utf_16 = self.file("a.jsonl", lines("Grüße, 世界", "two").encode("utf-16"))
        plain = self.file("b/a.jsonl", lines("Grüße, 世界", "two"))
        self.data(utf_16)
        self.data(plain, out="plain")
        self.assertEqual(self.description(), self.description("plain"))

    def test_a_part_for_validation_is_split_off_by_the_text(self):
        text = self.file("text.jsonl", lines(*(f"document number {i}" for i in range(500))))
        self.data(text, "--valid-fraction", 0.1)
        train, valid = (self.description(f"out/{part}")["documents"] for part in ("train", "valid"))
        self.assertEqual(train + valid, 500)
        self.assertTrue(20 <= valid <= 90, valid)
        self.assertIn("exists already", self.refused(text, "--valid-fraction", 0.1))
        few = self.file("few.jsonl", lines("one document"))
        self.assertIn("is not written", self.data(few, "--valid-fraction", 0.000001, out="few").stderr)
        self.assertTrue((self.base / "few/train/dataset.json").exists())

    def test_inspect_shows_a_row_as_it_is_packed(self):
        text = self.file("text.jsonl", lines("first text", "second\ntext"))
        self.data(text)
        shown = moe("data", "inspect", self.base / "out", "--sequence-length", 64).stdout
        self.assertIn("row 0 of 1 in epoch 0; 2 documents", shown)
        self.assertIn("first text", shown)
        self.assertIn("second\\ntext", shown)
        self.assertEqual(shown.count(" targets"), 3)
        listed = moe("data", "inspect", self.base / "out", "--sequence-length", 64, "--tokens").stdout
        tokens = self.description()["tokens"]
        rows = [line.split() for line in listed.splitlines() if line.split() and line.split()[0].isdigit()]
        self.assertEqual(len(rows), tokens)
        self.assertEqual(sum(row.count("-") > 0 for row in rows if row[-1] == "-"), 2)
        self.assertEqual(moe("data", "inspect", self.base / "none", check=False).returncode, 1)

    # Bits per byte: `moe train` and `moe eval loss` of the same documents.
    def tokenizer_variant(self, name, change, config):
        folder = self.base / name
        shutil.copytree(self.shared / "tokenizer", folder)
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        change(tokenizer)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        return folder

    def test_training_and_evaluation_agree_on_bits_per_byte(self):
        texts = self.texts[:6] + ["x", "é", "e\u0301tude", "A\u030a", " leading blank", "世界 and more", "   ", "\n\ntwo lines"]
        text = self.file("valid.jsonl", lines(*texts))
        eos = {"eos_token": "<｜end▁of▁sentence｜>"}

        def no_bos(tokenizer):
            tokenizer["post_processor"] = None

        def prefix(tokenizer):
            no_bos(tokenizer)
            tokenizer["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}

        def composed(tokenizer):
            no_bos(tokenizer)
            tokenizer["normalizer"] = {"type": "NFC"}

        def words(tokenizer):
            no_bos(tokenizer)
            tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
                {"type": "WhitespaceSplit"}, {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}

        variants = {"bos": (self.shared / "tokenizer", 0)}
        for name, change, config in (("no-bos", no_bos, eos), ("bare", no_bos, {}), ("prefix", prefix, eos),
                                     ("composed", composed, eos), ("words", words, eos)):
            variants[name] = self.tokenizer_variant(name, change, config), 1
        for name, (tokenizer, _) in variants.items():
            with self.subTest(name):
                self.data(text, out=f"{name}-data", tokenizer=tokenizer)
                data, run = self.base / f"{name}-data", self.base / f"{name}-run"
                moe("train", self.shared / "run.toml", "--set", f"data.train={data}", "--set", f"data.valid={data}",
                    "--set", f"run.dir={run}")
                trained = json.loads((run / "eval.jsonl").read_text().splitlines()[-1])
                moe("eval", "loss", run / "latest", text, "--json", self.base / "scores.json")
                scores = json.loads((self.base / "scores.json").read_text())["all"]
                for key in ("loss", "bits_per_byte", "bits_per_byte_error", "tokens", "bytes"):
                    self.assertEqual(trained[key], scores[key], key)
                if name == "bos":
                    self.assertEqual(scores["bytes"], sum(len(text.encode()) for text in texts))
                if name == "words":
                    self.assertEqual(scores["documents"], len(texts) - 1, "one is all white space")

    def test_hundreds_of_domains_are_trained_on_and_evaluated(self):
        files = [self.file(f"domains/d{i}.jsonl", lines(f"domain {i} has a text")) for i in range(300)]
        self.data(*files)
        self.assertEqual(len(self.domains()), 300)
        moe("train", self.shared / "run.toml", "--set", f"data.train={self.base}/out", "--set",
            f"data.valid={self.base}/out", "--set", f"run.dir={self.base}/run")
        trained = json.loads((self.base / "run/eval.jsonl").read_text().splitlines()[-1])
        moe("eval", "loss", self.base / "run/latest", *files, "--json", self.base / "scores.json")
        scores = json.loads((self.base / "scores.json").read_text())
        self.assertEqual(len(scores["domains"]), 300)
        for name, domain in scores["domains"].items():
            self.assertEqual(domain["loss"], trained["domains"][name]["loss"])
            self.assertAlmostEqual(sum(scores["routing"]["layers"][1]["domains"][name]), 1, places=9)

    def test_what_training_is_fed_does_not_depend_on_microbatches(self):
        log = {}
        for rows in (1, 2, 4):
            run = self.base / f"run-{rows}"
            moe("train", self.shared / "run.toml", "--set", f"data.train={self.shared}/dataset", "--set",
                f"run.dir={run}", "--set", f"data.microbatch_rows={rows}", "--set", "balance.scope=step", "--set",
                "train.steps=12", "--set", "optimizer.learning_rate=3e-3")
            log[rows] = log_without_times(run / "log.jsonl")
        for rows in (2, 4):
            for one, other in zip(log[1], log[rows]):
                self.assertAlmostEqual(one["loss"], other["loss"], delta=2e-5)
                self.assertEqual(one["tokens"], other["tokens"])

    def test_a_run_trains_on_several_datasets_by_their_weights_and_resumes_exactly(self):
        for name in "ab":
            self.data(self.file(f"{name}.jsonl", lines(*(f"{name} document {i} with words" for i in range(40)))), out=name)
        run_file = self.base / "run.toml"
        mixture = f'[{{path = "{self.base}/a", weight = 0.7}}, {{path = "{self.base}/b", weight = 0.3}}]'
        run_file.write_text((self.shared / "run.toml").read_text().replace("[data]", f"[data]\ntrain = {mixture}"))

        def train(folder, *more):
            return moe("train", run_file, "--set", f"run.dir={self.base}/{folder}", "--set", "checkpoint.every=5", *more)

        said = train("straight", "--set", "train.steps=12").stderr
        self.assertIn("epochs", said)
        self.assertIn("weight = 0.7", (self.base / "straight/run.toml").read_text())
        shutil.copytree(self.base / "straight", self.base / "resumed", symlinks=True)
        for step in (10, 12):
            shutil.rmtree(self.base / f"resumed/step-{step}")
        (self.base / "resumed/latest").unlink()
        (self.base / "resumed/latest").symlink_to("step-5")
        train("resumed", "--set", "train.steps=12", "--resume")
        for name in ("model.safetensors", "optimizer-00001-of-00001.safetensors"):
            self.assertEqual((self.base / "straight/latest" / name).read_bytes(),
                             (self.base / "resumed/latest" / name).read_bytes(), name)
        other = mixture.replace("0.7", "0.5")
        self.assertEqual(moe("train", run_file, "--set", f"run.dir={self.base}/straight", "--set", "train.steps=20",
                             "--set", f"data.train={other}", "--resume", check=False).returncode, 1)

    def test_the_tokens_of_an_epoch_are_those_of_the_dataset(self):
        text = self.file("text.jsonl", lines(*(f"document {i} with words" * (1 + i % 4) for i in range(60))))
        self.data(text)
        dataset = f"{self.base}/out"
        shown = moe("data", "inspect", dataset, "--sequence-length", 32).stdout
        rows = int(shown.split(" of ")[1].split()[0])
        moe("train", self.shared / "run.toml", "--set", f"data.train={dataset}", "--set", f"run.dir={self.base}/run",
            "--set", "data.rows_per_step=1", "--set", f"train.steps={2 * rows}")
        log = log_without_times(self.base / "run/log.jsonl")
        for epoch in (log[:rows], log[rows:]):
            self.assertEqual(sum(line["tokens"] for line in epoch), self.description()["tokens"])
        for step in (1, rows, rows + 3):
            row = moe("data", "inspect", dataset, "--sequence-length", 32, "--row", step - 1).stdout
            self.assertIn(f" {log[step - 1]['tokens']} tokens,", row)


if __name__ == "__main__":
    unittest.main()
