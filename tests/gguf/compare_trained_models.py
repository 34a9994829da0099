#!/usr/bin/env python3
"""Takes trained models through GGUF: a small published one, and the demo's. Their texts must stay the same, in `moe` and in
llama.cpp.

  compare_trained_models.py --moe build/moe [--venv build/venv]

Needs the Python packages llama-cpp-python (built from source), gguf and numpy; exit status 77 (a skip for CTest) without
them. MOE_TEST_PYTHON names a Python that has them.
"""

import json
import subprocess
import sys
import unittest

import packages

ARGUMENTS = packages.start(__doc__)  # the imports below need its Python

import llama  # noqa: E402
from common import EXACT_INPUTS, ROOT, SHARED, Case, all_ids, moe, our_ids  # noqa: E402

STORIES = SHARED / "data" / "weights" / "stories260K"
DOMAINS = ("bible", "dictionary", "python", "handbook", "chinese")
# As tools/demo.sh does, but shorter: a model whose next words differ from text to text.
STEPS = 120
CONTINUED = 40


def our_text(model, prompt, count):
    return moe("generate", model, "--prompt", "-", "--temperature", 0, "--max-new-tokens", count, "--device", "cpu", "--quiet",
               text=prompt.encode()).decode()


@unittest.skipUnless(STORIES.is_dir(), f"{STORIES} is not there")
class Stories(Case):
    def test_the_story_is_the_same_in_every_form_and_program(self):
        expected = json.loads((STORIES / "expected.json").read_text())
        prompt, ids, count = expected["prompt"], expected["prompt_ids"], expected["max_new_tokens"]
        plain, back, again = (self.folder / name for name in ("stories.gguf", "back", "again.gguf"))
        moe("convert", STORIES, plain)
        moe("convert", plain, back)
        moe("convert", back, again)
        for model in (STORIES, plain, back, again):
            self.assertEqual(our_ids(model, prompt), ids, model.name)
            self.assertEqual(prompt + our_text(model, prompt, count), expected["text"], model.name)
        for path in (plain, again):
            self.agree(path, EXACT_INPUTS, ids + expected["generated_ids"])
            model = llama.Model(path)
            self.addCleanup(model.close)
            self.assertEqual(model.ids(prompt), ids)
            self.assertEqual(model.continued(ids, count), expected["generated_ids"])
            self.assertEqual(model.text(ids + expected["generated_ids"]).strip(), expected["text"])

    def test_the_ids_of_our_file_are_llama_cpps(self):
        path = self.folder / "stories.gguf"
        moe("convert", STORIES, path)
        model = llama.Model(path)
        self.addCleanup(model.close)
        texts = [document["text"] for domain in DOMAINS for document in documents_of(self, domain)]
        expected = all_ids(STORIES, texts)
        self.assertEqual({text: model.ids(text) for text in texts}, expected)
        self.assertEqual(all_ids(path, texts), expected)


def documents_of(test, domain):
    """The demo's validation texts of a domain, made from packages if they are not there."""
    corpus = ROOT / "build" / "corpus"
    if not (corpus / "manifest.json").exists():
        made = subprocess.run([sys.executable, ROOT / "tools" / "make_corpus.py", "--out", corpus], capture_output=True, text=True)
        if made.returncode != 0:
            test.skipTest(f"the demo's corpus cannot be made: {made.stderr.strip()[-300:]}")
    return [json.loads(line) for line in (corpus / domain / "valid.jsonl").read_text().splitlines()]


class Demo(Case):
    def trained(self):
        """The demo's own model, or one that is trained for a minute on its text."""
        for domain in DOMAINS:
            documents_of(self, domain)
        run = ROOT / "runs" / "demo"
        if (run / "latest").exists():
            return run
        files = [ROOT / "build" / "corpus" / domain / "train.jsonl" for domain in DOMAINS]
        moe("tokenizer", "train", "--vocab-size", 4096, "--pattern", "qwen2", "--out", self.folder / "tokenizer", *files)
        moe("data", "--tokenizer", self.folder / "tokenizer", "--out", self.folder / "train", *files)
        run = self.folder / "run"
        settings = {"run.dir": run, "data.train": self.folder / "train", "data.valid": "", "train.steps": STEPS,
                    "eval.every": 0, "sample.every": 0}
        moe("train", ROOT / "configs" / "demo.toml", "--device", "cpu",
            *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")))
        return run

    def test_it_runs_in_llama_cpp_with_our_ids(self):
        run, path = self.trained(), self.folder / "demo.gguf"
        moe("convert", run, path, "--dtype", "f32")
        model = llama.Model(path)
        self.addCleanup(model.close)
        continued = set()
        for domain in DOMAINS:
            texts = [document["text"] for document in documents_of(self, domain)]
            expected = all_ids(run, texts)
            self.assertGreater(sum(map(len, expected.values())), 5000, domain)
            self.assertEqual({text: model.ids(text) for text in texts}, expected, domain)
            self.assertEqual(all_ids(path, texts), expected, domain)
            prompt = texts[0][:60]
            ids = our_ids(run, prompt)
            self.assertEqual(model.ids(prompt), ids, domain)
            self.agree(path, EXACT_INPUTS, ids)
            found = our_text(run, prompt, CONTINUED)
            self.assertEqual(our_text(path, prompt, CONTINUED), found, domain)
            self.assertEqual(model.text(model.continued(ids, CONTINUED)), found, domain)
            continued.add(found)
        self.assertEqual(len(continued), len(DOMAINS))


if __name__ == "__main__":
    unittest.main(argv=ARGUMENTS)
