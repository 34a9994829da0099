"""moe generate with many prompts: JSON lines in and out, samples, log-probabilities, scores, and llama.cpp's names.

Usage: lines_test.py PATH_OF_MOE
"""

import json
import math
import pathlib
import shutil
import tempfile
import unittest

from support import moe
from commands import SmallRun


class LinesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-lines-test-"))
        cls.model = SmallRun(cls.base).model

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def lines(self, *options, input=None):
        result = moe("generate", self.model, "--quiet", *options, input=input)
        self.assertEqual(result.stderr, "")
        return [json.loads(line) for line in result.stdout.splitlines()]

    def file(self, *lines):
        path = self.base / "prompts.jsonl"
        path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
        return path

    def refused(self, sentence, *options, status=1):
        result = moe("generate", self.model, "--quiet", *options, check=False)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertIn(sentence, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)

    def test_every_line_is_answered_in_its_order_with_the_text_it_gets_alone(self):
        greedy = ("--temperature", 0, "--max-new-tokens", 9)
        prompts = ["class", "namespace moe {", "#include <string>\n" * 2, "x", "class"]
        alone = [moe("generate", self.model, "--quiet", "--prompt", prompt, *greedy).stdout for prompt in prompts]
        answers = self.lines("--prompts", self.file(json.dumps(prompts[0]), "", *({"prompt": p} for p in prompts[1:])), *greedy)
        self.assertEqual([answer["text"] for answer in answers], alone)
        self.assertEqual([answer["line"] for answer in answers], [0, 1, 2, 3, 4])
        self.assertEqual({answer["reason"] for answer in answers}, {"max_new_tokens"})
        self.assertEqual([len(answer["ids"]) for answer in answers], [9] * 5)
        text = self.file(*({"prompt": p} for p in prompts)).read_text()
        self.assertEqual([each["text"] for each in self.lines("--prompts", "-", *greedy, input=text)], alone)

    def test_a_line_has_options_of_its_own(self):
        path = self.file({"prompt": "class", "max_new_tokens": 3, "id": {"mine": [1, "ü"]}},
                         {"prompt": "class", "temperature": 0, "max_new_tokens": 30, "stop": "zzzz"},
                         {"prompt": "class", "temperature": 0, "top_k": 1, "frequency_penalty": 50, "max_new_tokens": 30})
        short, greedy, penalised = self.lines("--prompts", path, "--max-new-tokens", 5)
        self.assertEqual(len(short["ids"]), 3)
        self.assertEqual(short["id"], {"mine": [1, "ü"]})
        self.assertNotEqual(greedy["ids"], penalised["ids"])
        new = [id for id in penalised["ids"]]
        self.assertEqual(len(new), len(set(new)), "a token that is there already is far less likely")

    def test_samples_differ_and_the_first_is_the_text_of_one_alone(self):
        options = ("--prompt", "class", "--max-new-tokens", 12, "--seed", 7)
        samples = self.lines(*options, "--samples", 6)
        self.assertEqual([each["sample"] for each in samples], list(range(6)))
        self.assertEqual(samples[0]["text"], moe("generate", self.model, "--quiet", *options).stdout)
        self.assertGreater(len({each["text"] for each in samples}), 1)
        self.assertEqual(samples, self.lines(*options, "--samples", 6))
        many = self.lines("--prompts", self.file('"class"', '"class"'), *options[2:], "--samples", 3)
        self.assertEqual([(each["line"], each["sample"]) for each in many], [(l, s) for l in range(2) for s in range(3)])
        self.assertEqual([each["text"] for each in many], [each["text"] for each in samples])

    def test_log_probabilities_are_those_of_the_model(self):
        (answer,) = self.lines("--prompt", "class", "--temperature", 0, "--max-new-tokens", 4, "--logprobs", 400)
        self.assertEqual([each["id"] for each in answer["logprobs"]], answer["ids"])
        for token in answer["logprobs"]:
            self.assertEqual(token["most_likely"][0]["id"], token["id"])
            self.assertEqual(token["most_likely"][0]["logprob"], token["logprob"])
            self.assertAlmostEqual(sum(math.exp(each["logprob"]) for each in token["most_likely"]), 1, places=6)
        (hot,) = self.lines("--prompt", "class", "--temperature", 3, "--max-new-tokens", 1, "--logprobs", 2)
        first = {each["id"]: each["logprob"] for each in answer["logprobs"][0]["most_likely"]}
        self.assertEqual(first[hot["ids"][0]], hot["logprobs"][0]["logprob"], "temperature does not change it")
        self.assertEqual(len(hot["logprobs"][0]["most_likely"]), 2)

    def test_a_given_continuation_is_scored(self):
        options = ("--prompt", "namespace", "--temperature", 0, "--max-new-tokens", 5, "--logprobs", 0)
        (answer,) = self.lines(*options)
        whole = self.lines("--prompts", self.file({"prompt": "namespace", "continuation": " moe {"}), "--echo")[0]
        self.assertEqual(whole["tokens"], len(whole["logprobs"]))
        self.assertAlmostEqual(whole["logprob"], sum(each["logprob"] for each in whole["logprobs"]), places=9)
        self.assertEqual("".join(each["text"] for each in whole["logprobs"]), " moe {")
        self.assertNotIn("text", whole)
        # The same numbers as prompt_logprobs of the whole.
        self.assertEqual([each["id"] for each in whole["logprobs"]], whole["prompt_ids"][-whole["tokens"]:])
        (echoed,) = self.lines("--prompts", self.file({"ids": whole["prompt_ids"], "max_new_tokens": 1}), "--echo",
                               "--logprobs", 0)
        self.assertEqual(echoed["prompt_logprobs"][-whole["tokens"]:], whole["logprobs"])
        self.assertEqual(len(echoed["prompt_logprobs"]), len(whole["prompt_ids"]) - 1)
        # What was generated gets the scores that it had when it was chosen.
        self.assertEqual(len(answer["ids"]), 5)
        scored = self.lines("--prompts", self.file({"prompt": "namespace", "continuation": answer["text"]}))[0]
        if [each["id"] for each in scored["logprobs"]] == answer["ids"]:
            for a, b in zip(scored["logprobs"], answer["logprobs"]):
                self.assertAlmostEqual(a["logprob"], b["logprob"], places=5)

    def test_echo_writes_the_prompt_first(self):
        options = ("--prompt", "class größe", "--max-new-tokens", 6, "--seed", 2, "--quiet")
        text = moe("generate", self.model, *options).stdout
        self.assertEqual(moe("generate", self.model, *options, "--echo").stdout, "class größe" + text)

    def test_names_of_llama_cpp(self):
        ours = moe("generate", self.model, "--quiet", "--prompt", "class", "--max-new-tokens", 7, "--temperature", 0.7,
                   "--seed", 3, "--threads", 1, "--repetition-penalty", 1.1, "--context", 12)
        theirs = moe("generate", "-m", self.model, "--quiet", "-p", "class", "-n", 7, "--temp=0.7", "-s", 3, "-t", 1,
                     "--repeat-penalty", 1.1, "-c", 12)
        self.assertEqual(theirs.stdout, ours.stdout)
        given = moe("generate", self.model, "--quiet", "-p", "-n", "-n", 3, "--temp", 0)  # "-n" is the prompt
        self.assertEqual(given.stdout, moe("generate", self.model, "--quiet", "--prompt=-n", "-n", 3, "--temp", 0).stdout)
        self.refused("--max-new-tokens x: expected a whole number", "-n", "x", status=2)

    def test_the_context_ends_a_text(self):
        (answer,) = self.lines("--prompt", "class", "--context", 10, "--max-new-tokens", 50, "--logprobs", 0, "--echo")
        if answer["reason"] == "max_positions":
            self.assertEqual(len(answer["ids"]) + len(answer["prompt_ids"]), 10)
        self.refused("tokens, but the context has room for 2 in all", "--prompt", "class namespace moe {", "--context", 2)

    def test_mistakes_are_named_with_their_line_before_any_work(self):
        for sentence, *lines in (
                ("line 2: it is not JSON", {"prompt": "a"}, "{"),
                ("line 1: it is an array, expected a string or an object", "[1]"),
                ('line 3: there is no field "promt"; the fields are prompt, ids, continuation, id', '"a"', "", {"promt": "a"}),
                ('line 1: it has neither "prompt" nor "ids"', {"id": 1}),
                ('line 1: it has "prompt" and "ids"', {"prompt": "a", "ids": [1]}),
                ('line 1: "ids" is', {"ids": [1, -2]}),
                ("line 1: the prompt has the token 99999", {"ids": [99999]}),
                ("line 1: the prompt has no token", {"ids": []}),
                ('line 1: "temperature" is "hot", expected a number', {"prompt": "a", "temperature": "hot"}),
                ("line 1: --temperature -1: expected a number from 0", {"prompt": "a", "temperature": -1}),
                ('line 1: "top_k" is 1.5, expected a whole number', {"prompt": "a", "top_k": 1.5}),
                *((f'line 1: "{field}" is {number}, expected a whole number', f'{{"prompt": "a", "{field}": {number}}}')
                  for field in ("top_k", "max_new_tokens") for number in (2**63, 2**64 - 1, 1.5, "null")),
                ('line 1: "ids" is empty, expected at least one id', {"ids": [], "continuation": "a"}),
                ('line 1: "stop" is 3, expected a string', {"prompt": "a", "stop": ["b", 3]}),
                ('line 1: "continuation" is empty', {"prompt": "a", "continuation": ""}),
                ("max_position_embeddings", '"a"', {"prompt": "word " * 500}),
        ):
            with self.subTest(sentence):
                self.refused(sentence, "--prompts", self.file(*lines))
        self.refused("has no prompt; give one JSON object a line", "--prompts", self.file("", "  "))
        self.refused("absent.jsonl", "--prompts", self.base / "absent.jsonl")
        self.refused("--prompt excludes --prompts", "--prompt", "a", "--prompts", self.file('"a"'), status=2)
        self.refused("--samples 0: expected a whole number from 1", "--samples", 0, status=2)


if __name__ == "__main__":
    unittest.main()
