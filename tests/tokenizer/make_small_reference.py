#!/usr/bin/env python3
"""Makes tests/tokenizer/small: a tokenizer that `moe` trained, and the ids that Hugging Face's library gives with it.

    build/venv/bin/python tests/tokenizer/make_small_reference.py --moe build/moe

tokenizer.json is trained on the texts below; reference.json has the texts and, for each published pre-tokenizer put into that
file, the library's ids.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import pre_tokenizers

TEXTS = [
    "In the beginning the earth was without form, and void; and darkness was upon the face of the deep.",
    "It's what they've said: we'll go, he'd stay, I'm sure you're right. IT'S WHAT THEY'VE SAID, WE'LL GO. it\u2019s",
    "def add(a, b):\n    \"\"\"Adds.\"\"\"\n    return a + b\n\n\nfor i in range(10):\n\tprint(f\"{i:>3} {add(i, 12345)}\")  # 1_000\n",
    "#include <vector>\r\nint main() { std::vector<int> v{1, 22, 333, 4444}; return v[0] != 0x1F ? -1 : 0; }\r\n\r\n",
    "The price was $1,234.56 (about 7.5% more than in 2023), i.e. \u20ac1\u00a0100,00 \u2014 \u00bd of \u00b2 \u2163 \u0663\u0664.",
    "\u4eba\u5de5\u667a\u80fd\u662f\u8ba1\u7b97\u673a\u79d1\u5b66\u7684\u4e00\u4e2a\u5206\u652f\uff0c\u5b83\u7814\u7a76\u3002\u4eba\u5de5\u667a\u80fd\u7684\u7814\u7a76\uff1a\u673a\u5668\u4eba\u3001\u8bed\u8a00\u8bc6\u522b\uff01 2024\u5e743\u670815\u65e5",
    "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c\u3002\u30ab\u30bf\u30ab\u30ca\u30fc\u3068\u3072\u3089\u304c\u306a\u3001\u4eba\u3005 \ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u039a\u03cc\u03c3\u03bc\u03b5. Stra\u00dfe, na\u00efve, caf\u00e9, cafe\u0301, \u0130stanbul, \u01c5",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902 \u092a\u093e\u0920 \u0646\u0635 \u0639\u0631\u0628\u064a \u0641\u0627\u0631\u0633\u06cc \u200c\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u05e9\u05dc\u05d5\u05dd",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001fa77\U0001fae8 \U00031350\U000323af \u2ffc \u1c89 \ud7ff\ue000\ufffd\U0010ffff",
    "   leading blanks,\ttabs\t\tand  double   blanks at the end   ",
    "\n\n\nline ends\r\n \r\n\t\n  \u3000\u2003\u2028\u0085x\x0b\x0c\u180e\u200b\ufeff",
    "\x00\x01\x1b[0m\x7f control characters\x00\x00 and ~!@#$%^&*()_+`-={}|[]\\:\";'<>?,./",
    "CamelCaseWordsAndHTTPServer2XMLParser snake_case_words kebab-case-words http://example.org/a/b?c=d&e=f#g //////",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 1234567890123456789012345678901234567890 ........................................",
    "",
    " ",
    "\u0301ABC \u0301abc A\u0301BC ab\u0301C's X'S don'T \u02b0\u02b1A \u00aa\u00baB",
]


def main():
    from tokenizers import Tokenizer, __version__

    parser = argparse.ArgumentParser()
    parser.add_argument("--moe", required=True)
    options = parser.parse_args()
    folder = Path(__file__).parent / "small"
    with tempfile.TemporaryDirectory() as temporary:
        lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS for _ in range(2))
        corpus = Path(temporary) / "texts.jsonl"
        corpus.write_text(lines, encoding="utf-8")
        subprocess.run([options.moe, "tokenizer", "train", "--vocab-size", "900", "--out", folder, corpus], check=True)
    root = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    cases = []
    for name, pre_tokenizer in pre_tokenizers.PUBLISHED.items():
        library = Tokenizer.from_str(json.dumps({**root, "pre_tokenizer": pre_tokenizer}))
        library.encode_special_tokens = True
        ids = [library.encode(text, add_special_tokens=False).ids for text in TEXTS]
        cases.append({"name": name, "pre_tokenizer": pre_tokenizer, "ids": ids})
    reference = {"made_by": f"tests/tokenizer/make_small_reference.py, tokenizers {__version__}", "texts": TEXTS, "cases": cases}
    (folder / "reference.json").write_text(json.dumps(reference) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
