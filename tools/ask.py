#!/usr/bin/env python3
"""Asks a fine-tuned demo held-out questions, and counts the answers that are in the taught form and that end.

    python3 tools/ask.py build/moe runs/sft-demo/latest build/sft/valid

For each domain it prints two questions with the answers. Then it counts over QUESTIONS questions of each kind: answers that
end with the end token within TOKENS tokens, and right answers about the source of a text, which has five possible answers.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
import make_questions  # noqa: E402

QUESTIONS, TOKENS, SHOWN = 30, 120, 2


def conversations(folder, domain):
    lines = (folder / f"{domain}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines]


def answers(moe, model, questions):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for question in questions:
            # DeepSeekMoE's chat format, which a model without a template of its own has.
            file.write(json.dumps({"prompt": f"User: {question}\n\nAssistant:"}, ensure_ascii=False) + "\n")
        file.flush()
        command = [moe, "generate", model, "--prompts", file.name, "--temperature", "0", "--max-new-tokens", str(TOKENS)]
        done = subprocess.run(command + ["--device", "cpu", "--quiet"], check=True, stdout=subprocess.PIPE)
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def main():
    moe, model, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    asked, ended, sources, right = 0, 0, 0, 0
    for domain, source in make_questions.SOURCES.items():
        turns = [messages[:2] for messages in conversations(folder, domain)]
        of_source = [turn for turn in turns if turn[0]["content"].startswith(make_questions.SOURCE_QUESTION)][:QUESTIONS]
        others = [turn for turn in turns if turn not in of_source][:QUESTIONS]
        found = answers(moe, model, [turn[0]["content"] for turn in of_source + others])
        for (question, expected), answer in zip(of_source + others, found):
            asked += 1
            ended += answer["reason"] == "end_of_sequence"
            if expected["content"] == source:
                sources += 1
                right += answer["text"].strip() == source
        for turn, answer in list(zip(others, found[len(of_source) :]))[:SHOWN]:
            print(f"--- {domain}\n{turn[0]['content']}\n>>> {answer['text']}")
    print(f"\nof {asked} answers, {ended} end by themselves within {TOKENS} tokens")
    print(f"of {sources} questions about the source of a text, {right} are answered right")


if __name__ == "__main__":
    main()
