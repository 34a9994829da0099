"""Fine-tuning as docs/finetuning.md tells it, small: conversations to a chat, ESFT, preferences, new tokens."""

import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

from support import ROOT, log_without_times, moe

WORDS = "river stone green walks under the old bridge and sings of light every morning while rain falls".split()
RUN_FILE = """
[run]
dir = "{folder}/base"
[data]
train = "{folder}/texts"
sequence_length = 96
rows_per_step = 8
microbatch_rows = 8
[model]
hidden_size = 48
num_hidden_layers = 2
num_attention_heads = 3
n_shared_experts = 1
n_routed_experts = 8
num_experts_per_tok = 2
moe_intermediate_size = 24
max_position_embeddings = 128
[train]
steps = 60
[optimizer]
learning_rate = 5e-3
"""


def sentence(draw, count):
    return " ".join(draw.choice(WORDS) for _ in range(count))


def corpus(folder):
    """Texts of the form of the demo's corpus."""
    draw = random.Random(3)
    texts = {
        "bible": lambda: "Genesis 1\n" + "\n".join(f"{i} And {sentence(draw, 7)}, {sentence(draw, 7)}." for i in range(1, 12)),
        "dictionary": lambda: "\n\n".join(f"{draw.choice(WORDS).title()}, n.\nA {sentence(draw, 6)}; {sentence(draw, 3)}."
                                          for _ in range(12)),
        "python": lambda: "\n".join(f"    {draw.choice(WORDS)} = {draw.choice(WORDS)}({draw.choice(WORDS)})" for _ in range(40)),
        "handbook": lambda: " ".join(f"The {sentence(draw, 8)}, {sentence(draw, 5)}." for _ in range(12)),
        "chinese": lambda: "\n".join("".join(draw.choice("文件系统选项目录命令输出") for _ in range(24)) + "，" +
                                     "".join(draw.choice("文件系统选项目录命令输出") for _ in range(20)) + "。" for _ in range(12)),
    }
    for domain, text in texts.items():
        (folder / domain).mkdir(parents=True)
        for part, count in (("train", 24), ("valid", 6)):
            (folder / domain / f"{part}.jsonl").write_text("".join(json.dumps({"text": text()}) + "\n" for _ in range(count)))


class FinetuningTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = pathlib.Path(tempfile.mkdtemp(prefix="moe-finetuning-"))
        folder = cls.shared
        corpus(folder / "corpus")
        files = sorted((folder / "corpus").glob("*/train.jsonl"))
        moe("tokenizer", "train", "--vocab-size", 700, "--out", folder / "tokenizer", *files)
        moe("data", "--tokenizer", folder / "tokenizer", "--out", folder / "texts", *files)
        (folder / "run.toml").write_text(RUN_FILE.format(folder=folder))
        moe("train", folder / "run.toml")
        subprocess.run([sys.executable, "-B", ROOT / "tools/make_questions.py", "--corpus", folder / "corpus", "--out",
                        folder / "sft"], check=True, stdout=subprocess.DEVNULL)
        for part in ("train", "valid"):
            moe("data", "--chat", "--tokenizer", folder / "base", "--max-tokens", 96, "--out", folder / "chats" / part,
                *sorted((folder / "sft" / part).glob("*.jsonl")))
        cls.settings = {"run.dir": "", "model.from": folder / "base", "data.train": folder / "chats/train",
                        "data.valid": folder / "chats/valid", "data.sequence_length": 96, "data.rows_per_step": 8,
                        "train.epochs": 0, "train.steps": 60, "optimizer.learning_rate": 5e-3, "eval.every": 0}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.shared)

    def train(self, name, check=True, resume=False, **more):
        settings = {**self.settings, "run.dir": self.shared / name, **{key.replace("__", "."): v for key, v in more.items()}}
        sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        return moe("train", ROOT / "configs/sft-demo.toml", *sets, *(["--resume"] if resume else []), check=check)

    def loss(self, model, *what):
        return json.loads(moe("eval", "loss", model, *(what or [self.shared / "chats/valid"]), "--json", "-").stdout)["all"]

    def test_a_chat_model_answers_in_the_format_and_ends(self):
        self.train("chat")
        before, after = self.loss(self.shared / "base"), self.loss(self.shared / "chat")
        self.assertEqual(before["tokens"], after["tokens"])
        self.assertLess(after["loss"], before["loss"] - 0.5)
        evaluated = json.loads((self.shared / "chat/eval.jsonl").read_text().splitlines()[-1])
        self.assertEqual(evaluated["tokens"], after["tokens"])
        self.assertAlmostEqual(evaluated["loss"], after["loss"], places=5)
        asked = json.loads((self.shared / "sft/valid/bible.jsonl").read_text().splitlines()[0])["messages"][0]["content"]
        prompts = self.shared / "prompts.jsonl"
        prompts.write_text(json.dumps({"prompt": f"User: {asked}\n\nAssistant:"}) + "\n")
        answer = json.loads(moe("generate", self.shared / "chat", "--prompts", prompts, "--temperature", 0,
                                "--max-new-tokens", 80).stdout)
        self.assertEqual(answer["reason"], "end_of_sequence", answer)
        self.assertNotIn("User:", answer["text"])

    def test_an_adapter_brings_the_template_that_it_has_learned(self):
        template = self.shared / "short.jinja"  # no built-in format, and an end of its own
        template.write_text("{% for m in messages %}<<{{ m.role }}>> {{ m.content }}"
                            "{% if m.role == 'assistant' %}<｜reserved_3｜>{% endif %}\n{% endfor %}"
                            "{% if add_generation_prompt %}<<assistant>> {% endif %}")
        moe("data", "--chat", "--tokenizer", self.shared / "base", "--template", template, "--max-tokens", 96, "--out",
            self.shared / "short", *sorted((self.shared / "sft/train").glob("*.jsonl")))
        run, base = self.shared / "short-run", self.shared / "base"
        self.train("short-run", train__parameters="lora", data__train=self.shared / "short", data__valid="", train__steps=4)
        flags = ["--temperature", "0", "--max-new-tokens", "6", "--show-prompt"]
        shown = moe("chat", run, *flags, input="Hello\n")
        self.assertIn("<<user>> Hello", shown.stderr)
        beside = moe("chat", base, "--lora", run, *flags, input="Hello\n")
        self.assertEqual((beside.stdout, beside.stderr.replace(str(base), "")), (shown.stdout, shown.stderr.replace(str(run), "")))
        for scale in ("0", "0.5"):
            said = moe("chat", base, "--lora", f"{run}:{scale}", *flags, input="Hello\n").stderr
            (self.assertNotIn if scale == "0" else self.assertIn)("<<user>> Hello", said)
        for name, arguments in (("merged-run", [run]), ("merged-base", [base, "--lora", run])):
            moe("merge", *arguments, "--out", self.shared / name)
            self.assertEqual((self.shared / name / "chat_template.jinja").read_text(), template.read_text())
            ends = json.loads((self.shared / name / "generation_config.json").read_text())["eos_token_id"]
            self.assertEqual(ends, [1, 6], "EOS, and the template's end")

    def test_the_experts_of_a_task(self):
        experts, scores = self.shared / "experts.json", self.shared / "scores.json"
        said = moe("eval", "experts", self.shared / "base", self.shared / "chats/train", "--p", 0.3, "--tokens", 4000, "--out",
                   experts, "--scores", scores)
        listed = json.loads(experts.read_text())
        self.assertEqual(set(listed["experts"]), {"0", "1"})
        self.assertIn("4000 tokens of", said.stderr)
        self.assertRegex(said.stdout, r"\d+ of 16 experts, [\d.]+K of [\d.]+K parameters \([\d.]+%\)")
        for layer in json.loads(scores.read_text())["layers"]:
            self.assertAlmostEqual(sum(layer["token"]), 1)
            order = sorted(range(8), key=lambda e: (-layer["token"][e], e))
            chosen = sorted(listed["experts"][str(layer["layer"])])
            self.assertEqual(chosen, sorted(order[: len(chosen)]))
            reached = [sum(layer["token"][e] for e in order[:n]) for n in (len(chosen) - 1, len(chosen))]
            self.assertTrue(reached[0] < 0.3 <= reached[1])
        again = ["eval", "experts", self.shared / "base", self.shared / "chats/train", "--p", 0.3, "--tokens", 4000]
        for link in (experts, self.shared / "chats/../experts.json"):
            refused = moe(*again, "--out", experts, "--scores", link, check=False)
            self.assertEqual(refused.returncode, 2)
            self.assertIn("--out names the same file", refused.stderr)
        full = moe(*again, "--out", "/dev/full", check=False)
        self.assertEqual((full.returncode, full.stdout), (1, said.stdout), "the table is not lost with the file")
        for mistake, told in (({"experts": {}}, "lists no expert, and no switch is true"),
                              ({"experts": {"0": [1]}, "share_experts": True}, '"share_experts" is not known'),
                              ({"experts": {"0": [2**64 - 1]}}, "holds 18446744073709551615")):
            (self.shared / "wrong.json").write_text(json.dumps(mistake))
            refused = self.train("never", check=False, train__parameters="experts", train__experts=self.shared / "wrong.json")
            self.assertEqual(refused.returncode, 2)
            self.assertIn("train.experts", refused.stderr)
            self.assertIn(told, refused.stderr)
        said = self.train("part", train__parameters="experts", train__experts=experts)
        self.assertRegex(said.stderr, r"trains +\d+ of 16 routed experts \(layer: experts\) 0: [\d ]+; 1: [\d ]+; ")
        self.assertLess(self.loss(self.shared / "part")["loss"], self.loss(self.shared / "base")["loss"])
        moe("convert", self.shared / "part", self.shared / "adapter", "--experts-only")
        self.assertEqual(json.loads((self.shared / "adapter/expert_cfg.json").read_text()), listed)
        moe("convert", self.shared / "base", self.shared / "adapted", "--experts", self.shared / "adapter")
        self.assertEqual(self.loss(self.shared / "adapted"), self.loss(self.shared / "part"))
        refused = moe("convert", self.shared / "base", self.shared / "none", "--experts-only", check=False)
        self.assertIn("has no expert_cfg.json", refused.stderr)
        # The model and the list may go: a resumed run has both.
        experts.unlink()
        said = self.train("part", resume=True, train__parameters="experts", train__experts=experts)
        self.assertIn("resuming from", said.stderr)

    def test_preferences(self):
        pairs = self.shared / "pairs.jsonl"
        draw = random.Random(5)
        lines = [{"prompt": sentence(draw, 5), "chosen": "The " + sentence(draw, 4), "rejected": "No " + sentence(draw, 4)}
                 for _ in range(60)]
        pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
        moe("data", "--preferences", "--tokenizer", self.shared / "base", "--max-tokens", 96, "--valid-fraction", 0.2, "--out",
            self.shared / "pairs", pairs)
        said = self.train("dpo", data__train=self.shared / "pairs/train", data__valid=self.shared / "pairs/valid",
                          train__objective="dpo", dpo__beta=0.2, train__steps=20, optimizer__learning_rate=1e-3)
        self.assertRegex(said.stderr, r"objective +preferences \(dpo\), beta 0.2")
        log = log_without_times(self.shared / "dpo/log.jsonl")
        self.assertAlmostEqual(log[0]["loss"], 0.6931471805599453, places=12)
        self.assertGreater(log[-1]["accuracy"], 0.9)
        self.assertGreater(json.loads((self.shared / "dpo/eval.jsonl").read_text().splitlines()[-1])["margin"], 0)

    def test_new_tokens(self):
        template = self.shared / "chatml.jinja"
        template.write_text("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
                            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
        chats = sorted((self.shared / "sft/train").glob("*.jsonl"))
        moe("data", "--chat", "--tokenizer", self.shared / "base", "--template", template, "--new-tokens", "<|im_start|>",
            "--new-tokens", "<|im_end|>", "--max-tokens", 96, "--out", self.shared / "chatml", *chats)
        said = self.train("grown", data__train=self.shared / "chatml", data__valid="")
        self.assertIn("; 2 new tokens from id 700 on, whose rows begin as the mean of the others", said.stderr)
        generation = json.loads((self.shared / "grown/latest/generation_config.json").read_text())
        self.assertIn(701, generation["eos_token_id"])
        prompts = self.shared / "chatml.jsonl"
        prompts.write_text(json.dumps({"prompt": "<|im_start|>user\nGo on with this verse: And river stone<|im_end|>\n"
                                                 "<|im_start|>assistant\n"}) + "\n")
        answer = json.loads(moe("generate", self.shared / "grown", "--prompts", prompts, "--parse-special", "--temperature", 0,
                                "--max-new-tokens", 80).stdout)
        self.assertEqual(answer["reason"], "end_of_sequence", answer)
        refused = self.train("never", check=False, model__from=self.shared / "grown")
        self.assertIn("was made with another tokenizer", refused.stderr)


if __name__ == "__main__":
    unittest.main()
