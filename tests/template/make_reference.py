#!/usr/bin/env python3
"""Writes tests/template/reference.json: what jinja2 makes of the templates in snippets.py and in chat_templates/, so that the
C++ tests need no Python.

    build/venv/bin/python tests/template/make_reference.py
"""

import json
from pathlib import Path

from contexts import CONTEXTS, MORE_CONTEXTS, TOKENS
from render_reference import render
from snippets import BLOCKS, REFUSED, VARIABLES, expressions

HERE = Path(__file__).parent


def main():
    snippets = ["{{ " + each + " }}" for each in expressions()] + BLOCKS + REFUSED
    cases = [{"source": source, "text": render(source, VARIABLES)[0]} for source in dict.fromkeys(snippets)]
    cases = [case for case in cases if case["text"] is None or " at 0x" not in case["text"].lower()]
    contexts = {name: {**TOKENS, **context} for name, context in {**CONTEXTS, **MORE_CONTEXTS}.items()}
    chats = []
    for file in sorted((HERE / "chat_templates").glob("*.jinja")):
        source = file.read_text(encoding="utf-8")
        chats += [{"template": file.name, "context": name, "text": render(source, variables)[0]}
                  for name, variables in contexts.items()]
    document = {"variables": VARIABLES, "snippets": cases, "contexts": contexts, "chats": chats}
    (HERE / "reference.json").write_text(json.dumps(document, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    print(f"{len(cases)} snippets, {len(chats)} conversations")


if __name__ == "__main__":
    main()
