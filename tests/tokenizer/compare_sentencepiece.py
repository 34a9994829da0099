#!/usr/bin/env python3
"""Compares `moe tokenizer` with the libraries `tokenizers` and `sentencepiece` on vocabularies of characters, id by id.

  compare_sentencepiece.py --moe build/moe --shared ../shared [--venv build/venv]

tokenizer.json files (LLaMA 2's kind with a normalizer, Mistral's with Metaspace) against `tokenizers`, tokenizer.model files
against `sentencepiece`. Texts: the validation files, the cases of llama.cpp, random strings of all code points. Exit status 77 (a
skip for CTest) where a library or the data is missing.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from python_packages import skip, use_python_with  # noqa: E402
from zst_files import read_zst  # noqa: E402

CASES = "llama_cpp_cases/ggml-vocab-llama-spm.gguf"


def random_texts(count):
    source = random.Random(1)
    texts = []
    for _ in range(count):
        most = source.choice([0x80, 0x250, 0x3100, 0xFFFF, 0x10FFFF])
        points = (source.choice([32, 32, 10, 0x2581, source.randrange(1, most)]) for _ in range(source.randrange(60)))
        text = "".join(chr(p) for p in points if not 0xD800 <= p <= 0xDFFF)
        # A text with line ends takes a call of its own (ours), so few have them.
        texts.append(text if len(texts) % 50 == 0 else text.replace("\n", ""))
    return texts


def texts_of(shared):
    texts = random_texts(3000)
    cases = (shared / "data/tokenizers" / (CASES + ".inp")).read_text(encoding="utf-8")
    texts += cases.split("\n__ggml_vocab_test__\n")
    for file in sorted((shared / "data/text").glob("*/valid.jsonl")):
        lines = file.read_text(encoding="utf-8").splitlines()
        documents = [json.loads(line)["text"] for line in lines]
        texts += documents[:5]
        texts += [line for document in documents for line in document.split("\n") if line]
    return texts + ["", " ", "  ", "a", " a", "a ", "\n", "<s>", "a<s> b</s>", "<0x41>", "\u2581a", "[INST] x [/INST]"]


def ours(moe, tokenizer, texts):
    """Ids of every text, without BOS. Texts without line ends go together; each of the others takes a call of its own."""
    command = [moe, "tokenizer", "encode", "--tokenizer", tokenizer, "--no-special"]
    together = [text for text in texts if "\n" not in text]
    run = subprocess.run([*command, "--lines"], input="".join(text + "\n" for text in together).encode(),
                         capture_output=True, check=True)
    lines = iter(run.stdout.decode().splitlines())
    result = []
    for text in texts:
        if "\n" not in text:
            result.append(json.loads(next(lines)))
            continue
        one = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
        result.append([int(number) for number in one.stdout.split()])
    return result


def decoded(moe, tokenizer, ids):
    run = subprocess.run([moe, "tokenizer", "decode", "--tokenizer", tokenizer], input=" ".join(map(str, ids)).encode(),
                         capture_output=True, check=True)
    return run.stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--moe", required=True)
    parser.add_argument("--shared", required=True, type=Path)
    parser.add_argument("--venv")
    arguments = parser.parse_args()
    use_python_with(["tokenizers", "sentencepiece"], arguments.venv, "`make venv`")
    import sentencepiece
    import tokenizers

    data = arguments.shared / "data"
    if not (data / "tokenizers" / "llama2" / "tokenizer.model").exists():
        skip(f"there are no tokenizers in {data}")
    texts = texts_of(arguments.shared)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        mistral = Path(folder) / "tokenizer.json"
        packed = data / "tokenizers/mistral/tokenizer.json.zst"
        mistral.write_bytes(read_zst(packed))
        files = [data / "weights/stories260K/tokenizer.json", mistral, data / "weights/stories260K/tokenizer.model",
                 data / "tokenizers/llama2/tokenizer.model", data / "tokenizers/mistral/tokenizer.model"]
        for file in files:
            if file.suffix == ".json":
                library = tokenizers.Tokenizer.from_file(str(file))
                library.encode_special_tokens = True
                expected = [each.ids for each in library.encode_batch(texts, add_special_tokens=False)]
            else:
                library = sentencepiece.SentencePieceProcessor(model_file=str(file))
                expected = library.encode(texts)
            got = ours(arguments.moe, file, texts)
            differ = [i for i in range(len(texts)) if got[i] != expected[i]]
            for i in differ[:5]:
                print(f"{file.parent.name}/{file.name}: {texts[i]!r}\n  library {expected[i]}\n  ours    {got[i]}")
            sample = [i for i in range(0, len(texts), 97) if got[i]]
            lost = [i for i in sample if decoded(arguments.moe, file, got[i]) != library.decode(got[i]).encode()]
            for i in lost[:5]:
                print(f"{file.parent.name}/{file.name}: {got[i]} is {library.decode(got[i])!r} in the library, "
                      f"{decoded(arguments.moe, file, got[i])!r} here")
            print(f"{file.parent.name}/{file.name}: {len(texts) - len(differ)} of {len(texts)} texts equal, "
                  f"{len(sample) - len(lost)} of {len(sample)} decoded alike")
            wrong += len(differ) + len(lost)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
