"""`moe data --chat` against a program of its own: jinja2 writes the texts, the library `tokenizers` makes the ids, and the marks
follow from the places of the answers.

Usage: compare_chats.py --moe PATH [--shared DIR] [--venv DIR]
"""

import argparse
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from python_packages import use_python_with  # noqa: E402
from zst_files import read_zst  # noqa: E402

TURN = "<｜reserved_0｜>"
WORDS = "river stone assistant user Assistant: User: green 你好 naïve 42 the\n\n  <b> ".split(" ")
TEMPLATES = {
    "chatml": "{% for m in messages %}{{ '" + TURN + "' + m['role'] + '\n' + m['content'] + '" + TURN + "' + '\n' }}{% endfor %}"
              "{% if add_generation_prompt %}{{ '" + TURN + "assistant\n' }}{% endif %}",
    "headers": "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}{% elif "
               "m['role'] == 'user' %}{{ '[Q] ' + m['content'] + ' [A]' }}{% else %}{{ m['content'] + '\n' }}{% endif %}{% endfor %}",
    "no end": "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
              "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
    "header": "{% for m in messages %}{{ '" + TURN + "' + m['role'] + '\n' + (m['content'] | trim) + '\n' }}{% endfor %}",
}
SPECIAL = ["<｜end▁of▁sentence｜>", TURN]  # as words of what somebody says
UNIQUE = "\ue000"
# As docs/templates.md describes DeepSeekMoE's format.
DEEPSEEK = ("{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ 'User: ' + m['content'] + '\n\n' }}"
            "{% elif m['role'] == 'assistant' %}{{ 'Assistant: ' + m['content'] + eos_token }}{% else %}{{ m['content'] + '\n\n' }}"
            "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}")


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--moe", required=True)
    parser.add_argument("--shared", default="")
    parser.add_argument("--venv", default="")
    return parser.parse_args()


def random_messages(draw):
    words = WORDS + SPECIAL if draw.random() < 0.3 else WORDS
    text = lambda: draw.choice("xyz") + " ".join(draw.choice(words) for _ in range(draw.randint(1, 12)))  # noqa: E731
    messages = [{"role": "system", "content": text()}] if draw.random() < 0.3 else []
    for _ in range(draw.randint(1, 4)):
        messages += [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]
    return messages


def in_format(kind, messages, draw):
    """The same conversation as an object of one of the four formats; the messages that it stands for."""
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    turns = messages[1:] if system else messages
    if kind == "openai":
        weighted = [dict(m, weight=draw.randint(0, 1)) if m["role"] == "assistant" and draw.random() < 0.3 else dict(m) for m in messages]
        return {"messages": weighted}, weighted
    if kind == "sharegpt":
        names = {"user": "human", "assistant": "gpt"}
        return {"system": system, "conversations": [{"from": names[m["role"]], "value": m["content"]} for m in turns]}, messages
    if kind == "alpaca":
        pairs = [[turns[i]["content"], turns[i + 1]["content"]] for i in range(0, len(turns) - 2, 2)]
        extra = draw.choice(["", "an input"])
        changed = [dict(m) for m in messages]
        changed[-2]["content"] += "\n" + extra if extra else ""
        return {"system": system, "history": pairs, "instruction": turns[-2]["content"], "input": extra,
                "output": turns[-1]["content"]}, changed
    return {"prompt": messages[:-1], "completion": messages[-1]["content"]}, messages


def read_dataset(folder):
    """Each document's ids and marks, from the layout that src/data/shards.h describes."""
    documents = []
    for name in json.loads((folder / "dataset.json").read_text())["shards"]:
        data = (folder / name).read_bytes()
        version, width = struct.unpack_from("<II", data, 8)
        assert version == 2, version
        count, total, _ = struct.unpack_from("<QQQ", data, len(data) - 32)
        padded = lambda size: (size + 7) // 8 * 8  # noqa: E731
        ids = struct.unpack_from(f"<{total}{'H' if width == 2 else 'I'}", data, 16)
        marks_at = 16 + padded(total * width)
        marks = data[marks_at:marks_at + total]
        begins = struct.unpack_from(f"<{count + 1}Q", data, marks_at + padded(total))
        documents += [(list(ids[a:b]), list(marks[a:b])) for a, b in zip(begins, begins[1:])]
    return documents


class Independent:
    def __init__(self, folder):
        import jinja2.sandbox
        import tokenizers

        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.config = json.loads((folder / "tokenizer_config.json").read_text())
        self.special = {id for id, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        name = lambda key: self.config[key] if isinstance(self.config[key], str) else self.config[key]["content"]  # noqa: E731
        self.bos, self.eos = name("bos_token"), name("eos_token")
        self.environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def mark(self, template, messages, last, most):
        render = lambda part, prompt: self.environment.from_string(template).render(  # noqa: E731
            messages=part, add_generation_prompt=prompt, bos_token=self.bos, eos_token=self.eos)
        bos = self.tokenizer.token_to_id(self.bos)
        turns, done = [], 0
        answers = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
        for i in answers:
            before, after = render(messages[:i], True), render(messages[:i + 1], False)
            assert after.startswith(before)
            learned = messages[i].get("weight", 1) != 0 and (not last or i == answers[-1])
            prompt, answer = self.ids(after[done:len(before)]), self.ids(after[len(before):])
            # What the template writes behind the words of an answer.
            marked = render(messages[:i] + [dict(messages[i], content=UNIQUE)], False)
            behind = [id for id in self.ids(marked[marked.rindex(UNIQUE) + len(UNIQUE):]) if id in self.special and id != bos]
            if not turns and prompt[:1] != [bos]:
                prompt.insert(0, bos)
            ends = [k for k, id in enumerate(answer) if id in self.special and id != bos]
            done = len(after)
            if not behind:  # a special token directly behind the answer, or EOS
                rest = render(messages, False)[done:]
                following = self.ids(rest)[:1]
                if following and following[0] in self.special and following[0] != bos:
                    answer += following
                    done += len(self.tokenizer.id_to_token(following[0]))
                else:
                    answer.append(self.tokenizer.token_to_id(self.eos))
                ends = [len(answer) - 1]
            turns.append((prompt, answer, ends[-1] + 1, learned))
        ids, marks, result = [], [], None
        for prompt, answer, end, learned in turns:
            if most and len(ids) + len(prompt) + end > most:
                break
            ids += prompt + answer
            marks += [0] * len(prompt) + [int(learned and k < end) for k in range(len(answer))]
            if learned:
                cut = len(ids) - len(answer) + end
                result = ids[:cut], marks[:cut]
        return result


def compare(moe, folder, name, tokenizer, independent, template, objects, last, most):
    source = folder / f"{name}.jsonl"
    source.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each, _ in objects))
    out = folder / f"{name}-data"
    command = [moe, "data", "--chat", "--tokenizer", tokenizer, "--out", out, "--max-tokens", most, source]
    if template is not None:
        (folder / "template.jinja").write_text(template)
        command += ["--template", folder / "template.jinja"]
    if last:
        command += ["--answers", "last"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = [independent.mark(template or DEEPSEEK, messages, last, most) for _, messages in objects]
    expected = [each for each in expected if each is not None]
    found = read_dataset(out)
    different = sum(a != tuple(b) for a, b in zip(found, expected)) + abs(len(found) - len(expected))
    learned = sum(sum(marks) for _, marks in found)
    print(f"{name}: {len(found)} conversations of {len(objects)}, {learned} tokens learned, {different} differ")
    if different:
        pair = next((a, b) for a, b in zip(found, expected) if a != tuple(b))
        print("  first:", *pair, sep="\n  ")
    return different


def main():
    flags = parse()
    use_python_with(["jinja2", "tokenizers"], flags.venv, "tools/make_venv.sh")
    draw = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="moe-chats-") as name:
        folder = pathlib.Path(name)
        text = folder / "text.jsonl"
        text.write_text("".join(json.dumps({"text": " ".join(draw.choice(WORDS) for _ in range(200))}) + "\n" for _ in range(20)))
        subprocess.run([flags.moe, "tokenizer", "train", "--vocab-size", "400", "--out", str(folder / "tokenizer"), str(text)],
                       check=True, capture_output=True)
        independent = Independent(folder / "tokenizer")
        different = 0
        for kind in ("openai", "sharegpt", "alpaca", "prompt"):
            objects = [in_format(kind, random_messages(draw), draw) for _ in range(200)]
            for label, template in [("deepseek", None), *TEMPLATES.items()]:
                different += compare(flags.moe, folder, f"{kind}-{label}", folder / "tokenizer", independent, template, objects,
                                     draw.random() < 0.3, draw.choice([0, 0, 120]))
        alpaca = pathlib.Path(flags.shared) / "data/sft/alpaca_zh_2k.json.zst"
        if alpaca.exists():
            whole = json.loads(read_zst(alpaca))
            objects = []
            for each in whole:
                question = each["instruction"] + ("\n" + each["input"] if each["input"] else "")
                messages = [{"role": "user", "content": question}, {"role": "assistant", "content": each["output"]}]
                if each["output"]:
                    objects.append((each, messages))
            different += compare(flags.moe, folder, "alpaca_zh", folder / "tokenizer", independent, None, objects, False, 0)
    sys.exit(1 if different else 0)


main()
