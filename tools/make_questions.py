#!/usr/bin/env python3
"""Makes conversations from the demo's corpus, for a small chat model: questions whose answers are in the text.

    python3 tools/make_questions.py --corpus build/corpus --out build/sft

It reads CORPUS/DOMAIN/train.jsonl and valid.jsonl and writes OUT/train/DOMAIN.jsonl and OUT/valid/DOMAIN.jsonl, one
conversation ({"messages": [...]}) a line. The answers of OUT/valid come from texts that no training answer comes from. The
kinds of questions:

- the source of a passage, with one of five answers;
- the rest of a verse, a sentence or a passage; the next lines of a program;
- the meaning of a word.

Some conversations have two questions. The same corpus gives the same files.
"""

import argparse
import json
import random
import re
from pathlib import Path

MOST_TRAIN, MOST_VALID = 2400, 200  # conversations of a domain
LEAST, MOST = 12, 240  # characters of a question's passage and of an answer

SOURCE_QUESTION = "Where is this text from?\n"
SOURCES = {
    "bible": "It is from the Bible.",
    "dictionary": "It is from a dictionary.",
    "python": "It is from a Python program.",
    "handbook": "It is from a handbook of Debian.",
    "chinese": "这是中文手册页。",
}


def fits(*texts):
    return all(LEAST <= len(text) <= MOST for text in texts)


def halves(text, cuts):
    """The text before and after the mark of `cuts` that is nearest to its middle; None without one."""
    places = [match.end() for match in re.finditer(cuts, text) if LEAST <= match.end() <= len(text) - LEAST]
    if not places:
        return None
    place = min(places, key=lambda at: abs(at - len(text) / 2))
    return text[:place].strip(), text[place:].strip()


def continued(question, texts, cuts):
    for text in texts:
        parts = halves(text, cuts)
        if parts and fits(*parts):
            yield question + parts[0], parts[1]


def verses(document):
    return [re.sub(r"^\d+ ", "", line).strip() for line in document.split("\n") if re.match(r"\d+ ", line)]


def bible(document):
    yield from continued("Go on with this verse: ", verses(document), r"[,:;.] ")


def dictionary(document):
    for entry in document.split("\n\n"):
        head, _, body = entry.partition("\n")
        word = re.match(r"([A-Z][a-z]+), (?:n|a|v|adv)\.", head)
        sense = re.sub(r"^1\. ", "", body.split("\n")[0]).strip()
        sense = re.sub(r"^(?:\([A-Z][\w. &]*\) )+", "", sense)
        end = re.search(r"[.;](?: |$)", sense)
        if word and end and fits(sense[: end.start()]):
            yield f"What does the word {word[1]} mean?", sense[: end.start()] + "."


def python(document):
    lines = document.split("\n")
    for at in range(0, len(lines) - 5, 5):
        asked, answer = "\n".join(lines[at : at + 3]), "\n".join(lines[at + 3 : at + 5]).rstrip()
        if asked.strip() and answer.strip() and fits(asked, answer):
            yield "Write the next two lines of this program.\n" + asked, answer


def sentences(document):
    text = re.sub(r"\s+", " ", document)
    return [match.strip() for match in re.findall(r"[A-Z][^.!?]{40,300}[.!?](?= |$)", text)]


def handbook(document):
    yield from continued("Complete this sentence: ", sentences(document), r"[,;:]? ")


def chinese(document):
    lines = [line.strip() for line in document.split("\n") if len(re.findall(r"[一-鿿]", line)) >= 12]
    yield from continued("请接着写：", lines, r"[，。；：、]")


MAKERS = {"bible": bible, "dictionary": dictionary, "python": python, "handbook": handbook, "chinese": chinese}


def passages(document):
    """Pieces of text whose source can be asked."""
    for at in range(0, len(document) - MOST, 5 * MOST):
        piece = document[at : at + MOST]
        piece = piece[piece.find("\n") + 1 :] if "\n" in piece[:-LEAST] else piece
        if fits(piece.strip()):
            yield piece.strip("\n")


def conversation(*turns):
    messages = []
    for question, answer in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def conversations(domain, documents, most, draw):
    own, sources = [], []
    for document in documents:
        own += MAKERS[domain](document)
        sources += [(SOURCE_QUESTION + passage, SOURCES[domain]) for passage in passages(document)]
    draw.shuffle(own)
    draw.shuffle(sources)
    own, sources = own[: most * 3 // 4], sources[: most // 4]
    made = [conversation(turn) for turn in own[len(sources) // 2 :]]
    # Half of the questions about the source follow, or come before, a question of the domain.
    for number, source in enumerate(sources):
        if number < len(sources) // 2 and number < len(own):
            made.append(conversation(source, own[number]) if number % 2 else conversation(own[number], source))
        else:
            made.append(conversation(source))
    draw.shuffle(made)
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("build/corpus"), help="folder of tools/make_corpus.py")
    parser.add_argument("--out", type=Path, default=Path("build/sft"), help="folder to write")
    parser.add_argument("--most", type=int, default=MOST_TRAIN, help="conversations of a domain for training, at most")
    arguments = parser.parse_args()
    for part, most in (("train", arguments.most), ("valid", min(MOST_VALID, arguments.most))):
        (arguments.out / part).mkdir(parents=True, exist_ok=True)
        for domain in MAKERS:
            text = (arguments.corpus / domain / f"{part}.jsonl").read_text(encoding="utf-8")
            documents = [json.loads(line)["text"] for line in text.splitlines()]
            made = conversations(domain, documents, most, random.Random(f"{domain} {part}"))
            lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in made)
            (arguments.out / part / f"{domain}.jsonl").write_text(lines, encoding="utf-8")
            print(f"{part:6}{domain:12}{len(made):6} conversations")


if __name__ == "__main__":
    main()
