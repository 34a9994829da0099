#!/usr/bin/env python3
"""`moe tokenizer apply-template`: what it prints and what it refuses.   template_command_test.py MOE"""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

MOE = sys.argv.pop(1)
SMALL = Path(__file__).parent.parent / "tokenizer" / "small"
QUESTION = {"messages": [{"role": "user", "content": "Grüße"}], "add_generation_prompt": True}


def apply(*arguments, variables=None):
    return subprocess.run([MOE, "tokenizer", "apply-template", *map(str, arguments)], capture_output=True, text=True,
                          input=None if variables is None else json.dumps(variables), timeout=60)


class ApplyTemplate(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def file(self, name, text):
        (self.path / name).write_text(text, encoding="utf-8")
        return self.path / name

    def test_a_file_with_a_template(self):
        template = self.file("chat.jinja", "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}\n\n\n")
        variables = self.file("v.json", json.dumps(QUESTION))
        run = apply("--template", template, "--variables", variables)
        self.assertEqual((run.stdout, run.stderr, run.returncode), ("<user>Grüße\n", "", 0))

    def test_a_tokenizer_without_a_template_gets_deepseek_moes_format_and_its_own_tokens(self):
        run = apply("--tokenizer", SMALL, "--variables", "-", variables=QUESTION)
        self.assertEqual(run.returncode, 0, run.stderr)
        bos = json.loads((SMALL / "tokenizer_config.json").read_text())["bos_token"]
        self.assertEqual(run.stdout, (bos if isinstance(bos, str) else bos["content"]) + "User: Grüße\n\nAssistant:")
        self.assertIn("no chat template", run.stderr)

    def test_ids_are_those_of_the_text_with_its_special_tokens(self):
        text = apply("--tokenizer", SMALL, "--variables", "-", variables=QUESTION).stdout
        run = apply("--tokenizer", SMALL, "--variables", "-", "--ids", variables=QUESTION)
        encoded = subprocess.run([MOE, "tokenizer", "encode", "--tokenizer", SMALL, "--no-special", "--parse-special"],
                                 input=text, capture_output=True, text=True)
        self.assertEqual(run.stdout, encoded.stdout)
        self.assertEqual(run.stdout.split()[0], "0")  # BOS, once

    def test_refusals_are_one_sentence(self):
        template = self.file("chat.jinja", "{{ raise_exception('roles must alternate') }}")
        run = apply("--template", template, "--variables", "-", variables={})
        self.assertEqual(run.returncode, 1)
        self.assertIn(f"{template}, line 1: roles must alternate", run.stderr)
        self.assertEqual(run.stdout, "")
        for arguments, said in ((["--variables", "-"], "--tokenizer or --template"),
                                (["--template", template, "--variables", "-", "--ids"], "--ids needs"),
                                (["--template", template, "--name", "x", "--variables", "-"], "--name chooses")):
            run = apply(*arguments, variables={})
            self.assertEqual(run.returncode, 2)
            self.assertIn(said, run.stderr)
        run = apply("--template", template, "--variables", self.path / "absent.json")
        self.assertEqual(run.returncode, 1)
        self.assertIn("absent.json", run.stderr)


if __name__ == "__main__":
    unittest.main()
