#!/usr/bin/env python3
"""Compares `moe tokenizer` with Hugging Face's `tokenizers` library, id by id.

  compare_tokenizers.py --moe build/moe --shared ../shared [--scale 1] [--venv build/venv]

Tokenizers: one trained here, deepseek-llm and gpt2. Texts: the validation files, random strings of the code points that
Unicode 14 assigns (the version of PCRE2's tables), special tokens spelled in text. Exit status 77 (a skip for CTest)
where the library or the data is missing.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from python_packages import skip, use_python_with  # noqa: E402
from zst_files import read_zst  # noqa: E402

BYTES_ONLY = "øöúÿõ÷ûýÀùÁþü"  # added entries of deepseek-llm that the library decodes as single bytes


class Moe:
    def __init__(self, program, tokenizer):
        self.program, self.tokenizer = program, tokenizer

    def run(self, command, data, *flags):
        arguments = [self.program, "tokenizer", command, "--tokenizer", str(self.tokenizer), *flags]
        done = subprocess.run(arguments, input=data, capture_output=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(arguments)} failed: {done.stderr.decode(errors='replace')}")
        return done.stdout

    def encode(self, text, *flags):
        return [int(i) for i in self.run("encode", text.encode(), *flags).split()]

    def encode_lines(self, lines, *flags):
        out = self.run("encode", "".join(line + "\n" for line in lines).encode(), "--lines", *flags)
        return [json.loads(line) for line in out.splitlines()]

    def decode(self, ids, *flags):
        return self.run("decode", " ".join(map(str, ids)).encode(), *flags)


failures = 0


def check(what, found, expected, text=""):
    global failures
    if found != expected:
        failures += 1
        if failures <= 20:
            at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
            print(f"FAILED {what}: {text[:200]!r}\n  differs at {at}: found {found[max(0, at - 3):at + 5]}, "
                  f"expected {expected[max(0, at - 3):at + 5]}")


def check_lines(what, moe, library, lines, *flags):
    found = moe.encode_lines(lines, *flags)
    check(f"{what}: number of lines", [len(found)], [len(lines)])
    expected = library.encode_batch(lines, add_special_tokens="--no-special" not in flags)
    for line, ours, theirs in zip(lines, found, expected):
        check(what, ours, theirs.ids, line)


def assigned():
    return [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]


def random_strings(count, rng):
    everything = assigned()
    digits = [c for c in everything if unicodedata.category(c)[0] == "N"]
    marks = [c for c in everything if unicodedata.category(c)[0] == "M"]
    spaces = [c for c in everything if c.isspace()] + ["\u180e", "\u200b", "\ufeff", "\u0000"]
    ascii_all = [chr(c) for c in range(128)]
    words = ["the", "don't", "I'LL", "'s", "ſ", "'ſ", "K", "Straße", "naïve", "汉字", "かな", "カナ", "한국",
             "def f(x):", "    "]
    latin = [chr(c) for c in range(0x80, 0x600)]
    asian = [chr(c) for c in range(0x2E80, 0xA000) if unicodedata.category(chr(c)) != "Cn"]
    pools = [everything, everything, ascii_all, ascii_all, digits, marks, spaces, [" "], latin, asian, list("abcXYZ"),
             words]
    strings = []
    for _ in range(count):
        text = ""
        for _ in range(rng.randint(1, 8)):
            pool = rng.choice(pools)
            text += "".join(rng.choice(pool) for _ in range(rng.randint(1, 6)))
        strings.append(text)
    return strings


def with_specials(strings, specials, rng):
    out = []
    for text in strings:
        cut = rng.randint(0, len(text))
        out.append(text[:cut] + rng.choice(specials) + rng.choice(["", " ", rng.choice(specials)]) + text[cut:])
    return out


def compare(name, program, folder, texts, scale):
    from tokenizers import Tokenizer
    moe = Moe(program, folder)
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    specials = [t.content for t in library.get_added_tokens_decoder().values() if t.special]
    rng = random.Random(1)
    library.encode_special_tokens = True
    for path, documents in texts.items():
        whole = "\n\n".join(documents)
        ids = moe.encode(whole, "--no-special")
        check(f"{name}: {path} as one text", ids, library.encode(whole, add_special_tokens=False).ids)
        check(f"{name}: {path} decoded", moe.decode(ids), whole.encode())
        if not set(whole) & set(BYTES_ONLY):
            check(f"{name}: {path} decoded as by the library", moe.decode(ids), library.decode(ids).encode())
        lines = [line for document in documents for line in document.split("\n")]
        check_lines(f"{name}: a line of {path}", moe, library, lines, "--no-special")
    print(f"{name}: {len(texts)} files compared")
    strings = random_strings(6000 * scale, rng)
    whole = "".join(strings)
    expected = library.encode(whole, add_special_tokens=False).ids
    check(f"{name}: random text", moe.encode(whole, "--no-special"), expected)
    lines = [s.replace("\n", "\r") for s in strings]
    check_lines(f"{name}: random line", moe, library, lines, "--no-special")
    if specials:
        lines = with_specials(lines[: 2000 * scale], specials, rng)
        check_lines(f"{name}: special tokens as text", moe, library, lines, "--no-special")
        library.encode_special_tokens = False
        check_lines(f"{name}: special tokens parsed", moe, library, lines, "--no-special", "--parse-special")
        line = specials[0] + "a" + specials[-1]
        ids = library.encode(line, add_special_tokens=False).ids
        without = library.decode(ids, skip_special_tokens=True)
        check(f"{name}: special tokens left out", moe.decode(ids), without.encode())
        check(f"{name}: special tokens kept", moe.decode(ids, "--special"),
              library.decode(ids, skip_special_tokens=False).encode())
    print(f"{name}: {len(strings)} random strings compared")
    return moe, library


def compare_trained(program, temporary, valid_files, texts, scale):
    folder = temporary / "trained"
    subprocess.run([program, "tokenizer", "train", "--vocab-size", "2048", "--out", folder, *valid_files], check=True)
    moe, library = compare("trained", program, folder, texts, scale)
    check("trained: vocabulary size", [library.get_vocab_size()], [2048])
    check("trained: BOS is added", moe.encode("Hello"), library.encode("Hello").ids, "Hello")
    check("trained: nothing but BOS", moe.encode(""), library.encode("").ids)
    every = [i for i in range(2048)]
    check("trained: every id decoded", moe.decode(every, "--special").decode(errors="replace"),
          library.decode(every, skip_special_tokens=False))
    return folder


def step(kind, **members):
    return {"type": kind, **members}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return step("Split", pattern={kind: pattern}, behavior=behavior, invert=invert)


def added(content, **flags):
    defaults = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return {"content": content, **defaults, **flags}


GPT4 = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|"
        r"\s+(?!\S)|\s+")
PRE_TOKENIZERS = {
    "behaviors": [split("[aeiou ]", "MergedWithNext"), split(r"\d", "MergedWithPrevious")],
    "contiguous and inverted": [split("[b-z]", "Contiguous"), split(r"\w+", "Isolated", True)],
    "removed": [split(" ", "Removed", kind="String"), split("a*", "Isolated")],
    "classes": [split(r"\w+"), split(r"[\s\d]+"), split(r"[^\w\s]"), split(r"\S"), split(r"\D+")],
    "scripts": [split(r"\p{Han}+"), split(r"[\p{Hiragana}\p{Katakana}]+"), split(r"\P{Latin}"), split(r"\p{^Greek}+")],
    "categories": [split(r"\p{Lu}+"), split(r"[\p{Ll}\p{Lm}]+"), split(r"\p{M}"), split(r"\p{Letter}+"),
                   split(r"\p{P}")],
    "lines": [split(r"^\s+|\s+$"), split(r"(?i:the|k)"), split(r"(?m:.\n.)")],
    "GPT-4": [split(GPT4)],
    "named": [step("Digits", individual_digits=False), step("Punctuation", behavior="Contiguous"), step("Whitespace")],
    "white space": [step("WhitespaceSplit"), step("Digits", individual_digits=True)],
}
BYTE_LEVELS = [step("ByteLevel", add_prefix_space=blank, trim_offsets=True, use_regex=regex)
               for blank in (False, True) for regex in (False, True)]
ADDED = [added("<a>", lstrip=True), added("<b>", rstrip=True), added("<c>", single_word=True),
         added("<d>", normalized=True), added("<e>", special=True), added("<e><d>", special=True),
         added("<a> <b>", lstrip=True, rstrip=True),
         added("ж"), added("汉", normalized=True)]


def compare_components(program, temporary, trained, scale):
    """One tokenizer for each pre-tokenizer and one for the flags of added tokens."""
    from tokenizers import Tokenizer
    base = json.loads((trained / "tokenizer.json").read_text(encoding="utf-8"))
    variants = {f"{name}, ByteLevel {i}": {"pretokenizers": [*steps, BYTE_LEVELS[i % 4]]}
                for i, (name, steps) in enumerate(PRE_TOKENIZERS.items())}
    variants.update({f"ByteLevel {i}": {"pretokenizers": [level]} for i, level in enumerate(BYTE_LEVELS)})
    size = len(base["model"]["vocab"])
    extra = [{"id": size + i, **token} for i, token in enumerate(ADDED)]
    variants["added tokens"] = {"pretokenizers": base["pre_tokenizer"]["pretokenizers"], "added": extra}
    rng = random.Random(2)
    strings = [s.replace("\n", "\r") for s in random_strings(1000 * scale, rng)]
    contents = [token["content"] for token in ADDED]
    for i, (name, variant) in enumerate(variants.items()):
        folder = temporary / f"variant-{i}"
        folder.mkdir()
        root = {**base, "pre_tokenizer": step("Sequence", pretokenizers=variant["pretokenizers"])}
        root["added_tokens"] = base["added_tokens"] + variant.get("added", [])
        (folder / "tokenizer.json").write_text(json.dumps(root), encoding="utf-8")
        library = Tokenizer.from_file(str(folder / "tokenizer.json"))
        moe = Moe(program, folder)
        lines = with_specials(with_specials(strings, contents, rng), contents, rng) if "added" in variant else strings
        check_lines(name, moe, library, lines, "--parse-special")
        library.encode_special_tokens = True
        check_lines(f"{name}, specials as text", moe, library, lines)
    print(f"{len(variants)} pre-tokenizers and sets of added tokens compared")


def compare_given(program, temporary, shared, texts, scale):
    tokenizers = shared / "data" / "tokenizers"
    folder = temporary / "deepseek-llm"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes(read_zst(tokenizers / "deepseek-llm" / "tokenizer.json.zst"))
    (folder / "tokenizer_config.json").write_bytes((tokenizers / "deepseek-llm" / "tokenizer_config.json").read_bytes())
    moe, library = compare("deepseek-llm", program, folder, texts, scale)
    bos = library.token_to_id("<｜begin▁of▁sentence｜>")
    check("deepseek-llm: BOS once", moe.encode("Hello"), [bos] + library.encode("Hello", add_special_tokens=False).ids)

    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    source, folder = temporary / "gpt2-files", temporary / "gpt2"
    source.mkdir()
    folder.mkdir()
    for name in ("vocab.json", "merges.txt"):
        (source / name).write_bytes(read_zst(tokenizers / "gpt2" / f"{name}.zst"))
    gpt2 = Tokenizer(models.BPE.from_file(str(source / "vocab.json"), str(source / "merges.txt")))
    gpt2.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    gpt2.decoder = decoders.ByteLevel()
    gpt2.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=True)])
    gpt2.save(str(folder / "tokenizer.json"))
    compare("gpt2", program, folder, texts, scale)
    lines = [line for documents in texts.values() for document in documents[::20] for line in document.split("\n")]
    check_lines("gpt2 from vocab.json and merges.txt", Moe(program, source), gpt2, lines, "--no-special")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--moe", required=True)
    parser.add_argument("--shared", required=True, type=Path)
    parser.add_argument("--scale", type=int, default=1, help="multiplies the number of random strings")
    parser.add_argument("--venv", help="Python environment with the library, used where this Python lacks it")
    arguments = parser.parse_args()
    use_python_with(["tokenizers"], arguments.venv, "`make venv`")
    valid_files = sorted(arguments.shared.glob("data/text/*/valid.jsonl"))
    if not valid_files:
        skip(f"no validation texts under {arguments.shared}")
    texts = {str(path.relative_to(arguments.shared)): [json.loads(line)["text"] for line in path.open(encoding="utf-8")]
             for path in valid_files}
    with tempfile.TemporaryDirectory() as temporary:
        trained = compare_trained(arguments.moe, Path(temporary), valid_files, texts, arguments.scale)
        texts = {"all texts": [document for documents in texts.values() for document in documents]}
        compare_components(arguments.moe, Path(temporary), trained, arguments.scale)
        compare_given(arguments.moe, Path(temporary), arguments.shared, texts, arguments.scale)
    print(f"{failures} differences")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
