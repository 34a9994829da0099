"""The pre-tokenizers that ids are compared under, as tokenizer.json files have them."""

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
HAN = "一-鿿㐀-䶿豈-\ufaff\u3040-ヿ々〆"
TRAINED = (rf"\p{{N}}|[{HAN}]+|[^\r\n\p{{L}}\p{{M}}\p{{N}}]?(?:[^\P{{L}}{HAN}]|\p{{M}})+"
           r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK_LETTERS = (
    '\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕ'
    'ἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛ'
    'Ꜣ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+'
)
DEEPSEEK_PUNCTUATION = '\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+'
DEEPSEEK_CHINESE = '[一-龥ࠀ-一가-\ud7ff]+'
DEEPSEEK_V3 = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
               r"|\s*[\r\n]+|\s+(?!\S)|\s+").replace(r"\r\n", "\r\n")


def split(expression, behavior="Isolated"):
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": behavior, "invert": False}


def steps(*each):
    return {"type": "Sequence", "pretokenizers": [*each, BYTE_LEVEL]}


PUBLISHED = {
    "gpt2": {**BYTE_LEVEL, "use_regex": True},
    "llama3": steps(split(LLAMA3)),
    "qwen2": steps(split(QWEN2)),
    "o200k": steps(split(O200K)),
    "deepseek-llm": steps(split("[\r\n]"), split(DEEPSEEK_LETTERS), split(DEEPSEEK_PUNCTUATION), split(r"\s+$"),
                          split(DEEPSEEK_CHINESE), {"type": "Digits", "individual_digits": True}),
    "deepseek-v3": steps(split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK_V3)),
    "trained": steps(split(TRAINED)),
}
# Steps and classes that no published expression has, and expressions that PCRE2 matches.
OTHERS = {
    "Whitespace": steps({"type": "Whitespace"}),
    "WhitespaceSplit": steps({"type": "WhitespaceSplit"}),
    "Punctuation": steps({"type": "Punctuation", "behavior": "Isolated"}),
    "single digits": steps({"type": "Digits", "individual_digits": True}),
    "digits": steps({"type": "Digits", "individual_digits": False}),
    "words": steps(split(r"\w+|[^\w\s]+")),
    "no words": steps(split(r"\W", "Removed")),
    "categories": steps(split(r"\p{Ll}+|\p{Lo}|\p{Mn}+|\p{So}|\p{Cf}|[^\P{Sc}a]")),
    "properties": steps(split(r"\p{Alphabetic}+|x", "MergedWithNext"), split(r"(?:\p{Han}|\p{Ideographic})+|x", "Contiguous")),
}
