#!/usr/bin/env python3
"""Writes the first inputs of every fuzzing target, from the small files of the other tests: make_seeds.py OUT."""

import base64
import gzip
import json
import pathlib
import re
import struct
import sys

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "tokenizer"))
import pre_tokenizers  # noqa: E402

CUT = b"\xff"
TEXT = "Hello, the  he\u0301llo\r\n 123\u00e9 \u4e2d\u6587 <s>x\U0001f642\t".encode()
ARRAY, TEXTS = 9, 8


class Folder:
    """One target's inputs."""

    made = []

    def __init__(self, out, target):
        Folder.made.append(self)
        self.path = out / target
        self.path.mkdir(parents=True, exist_ok=True)
        self.count = 0
        self.words = set()

    def write_dictionary(self):
        """The words of the inputs, which libFuzzer puts into others."""
        lines = ['"' + word.decode() + '"\n' for word in sorted(self.words)]
        self.path.with_suffix(".dict").write_text("".join(lines) + '"\\xFF"\n', encoding="ascii")

    def add(self, *parts):
        self.count += 1
        parts = [part if isinstance(part, bytes) else part.encode() for part in parts]
        data = CUT.join(parts)
        (self.path / f"seed-{self.count:03}").write_bytes(data)
        self.words.update(re.findall(rb"[A-Za-z_][A-Za-z_.<>|]{1,30}|[0-9.]+|[-%{}]{2}|<0x[0-9A-F]{2}>", data))


def safetensors(tensors, metadata=None):
    """A file of zeros. `tensors`: (name, type, bytes of an element, shape)."""
    header, end = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for name, kind, size, shape in tensors:
        begin = end
        for axis in shape:
            size *= axis
        end += size
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(end)


def gguf_text(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


class Signed(int):
    """An integer that a GGUF file has as i32."""


def gguf_value(value):
    """(type, bytes) of a Python value: a list is an array of its first element's type."""
    if isinstance(value, bool):
        return 7, struct.pack("<B", value)
    if isinstance(value, int):
        return (5, struct.pack("<i", value)) if isinstance(value, Signed) else (4, struct.pack("<I", value))
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, str):
        return TEXTS, gguf_text(value)
    kind = gguf_value(value[0])[0] if value else TEXTS
    return ARRAY, struct.pack("<IQ", kind, len(value)) + b"".join(gguf_value(each)[1] for each in value)


def gguf(metadata, tensors):
    """`tensors`: (name, type, bytes, shape with the innermost axis first)."""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        kind, data = gguf_value(value)
        out += gguf_text(key) + struct.pack("<I", kind) + data
    offset, alignment = 0, metadata.get("general.alignment", 32)
    for name, kind, size, shape in tensors:
        out += gguf_text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        out += struct.pack("<IQ", kind, offset)
        offset += -(-size // alignment) * alignment
    return out + bytes(-len(out) % alignment) + bytes(offset) if tensors else out


def f32(name, *shape):
    size = 4
    for axis in shape:
        size *= axis
    return name, 0, size, list(shape)


def gguf_models():
    width, words = 4, ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + ["\u2581", "a", "\u2581a"]
    tensors = [f32("token_embd.weight", width, len(words)), f32("output_norm.weight", width),
               f32("output.weight", width, len(words)), f32("blk.0.attn_norm.weight", width),
               f32("blk.0.ffn_norm.weight", width)]
    tensors += [f32(f"blk.0.attn_{name}.weight", width, width) for name in ("q", "k", "v", "output")]
    dense = [f32(f"blk.0.ffn_{name}.weight", width, width) for name in ("gate", "up", "down")]
    experts = [f32(f"blk.0.ffn_{name}_exps.weight", width, width, 2) for name in ("gate", "up", "down")]
    router = [f32("blk.0.ffn_gate_inp.weight", width, 2)]

    def sizes(architecture, **more):
        keys = {"embedding_length": width, "block_count": 1, "attention.head_count": 2, "attention.head_count_kv": 2,
                "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 1e4, "context_length": 64,
                "feed_forward_length": width, **more}
        return {"general.architecture": architecture, **{f"{architecture}.{key}": keys[key] for key in keys}}

    sentencepiece = {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": words, "tokenizer.ggml.scores": [0.0] * len(words),
        "tokenizer.ggml.token_type": [Signed(kind) for kind in (2, 3, 3, *[6] * 256, 1, 1, 1)],
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}
    # The letters of bytes, as in GPT-2's vocabulary
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    letters = [chr(byte) for byte in visible] + [chr(256 + i) for i in range(len(hidden))]
    bpe = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe",
           "tokenizer.ggml.tokens": letters + ["he", "<s>", "</s>"],
           "tokenizer.ggml.token_type": [Signed(kind) for kind in (*[1] * 257, 3, 3)], "tokenizer.ggml.merges": ["h e"],
           "tokenizer.ggml.bos_token_id": 257, "tokenizer.ggml.eos_token_id": 258}
    yield gguf({**sizes("llama"), **sentencepiece}, tensors + dense)
    yield gguf({**sizes("llama", expert_count=2, expert_used_count=2), **sentencepiece}, tensors + router + experts)
    yield gguf({**sizes("deepseek", expert_count=2, expert_used_count=2, expert_feed_forward_length=width,
                        leading_dense_block_count=0), **bpe}, tensors + router + experts)
    chosen = {"expert_count": 2, "expert_used_count": 2}
    yield gguf(sizes("olmoe", **chosen), tensors + router + experts + [
        f32(f"blk.0.attn_{name}_norm.weight", width) for name in "qk"])
    yield gguf(sizes("qwen3moe", expert_feed_forward_length=width, **chosen), tensors + router + experts + [
        f32(f"blk.0.attn_{name}_norm.weight", 2) for name in "qk"])
    yield gguf(sizes("qwen2moe", expert_feed_forward_length=width, **chosen), tensors + router + experts + [
        *(f32(f"blk.0.attn_{name}.bias", width) for name in "qkv"), f32("blk.0.ffn_gate_inp_shexp.weight", width),
        *(f32(f"blk.0.ffn_{name}_shexp.weight", width, width) for name in ("gate", "up", "down"))])
    yield gguf(sizes("llama"), tensors + dense)
    yield gguf(sentencepiece, [])
    yield gguf(bpe, [])


def gguf_containers():
    yield gguf({}, [])
    yield gguf({"general.alignment": 64, "a": [True, False], "b": [[1, 2], [3]], "c": Signed(-7), "d": 2.5, "e": "text"},
               [f32("x", 3, 2), ("q8", 8, 34 * 2, [32, 2]), ("q4k", 12, 144, [256]), ("bf16", 30, 6, [3])])
    yield gguf({"split.no": 0, "split.count": 1, "split.tensors.count": 1}, [f32("x", 1)])


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    """A field of a protocol buffer: bytes, float or integer."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def sentencepiece(model_type, words, byte_fallback=True, trainer=b"", normalizer=b""):
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)] + [(word, -float(i), 1) for i, word in enumerate(words)]
    out = b"".join(field(1, field(1, text.encode()) + field(2, score) + field(3, kind)) for text, score, kind in pieces)
    out += field(2, field(3, model_type) + field(35, int(byte_fallback)) + field(40, 0) + field(41, 1) + field(42, 2) + trainer)
    return out + field(3, field(1, b"identity") + field(3, 1) + field(4, 0) + field(5, 1) + normalizer)


def character_map():
    """SentencePiece's map of characters: "h" becomes "H "."""
    units, leaf, place = [0] * 256, 1, ord("h")  # the root's children are at their own bytes
    units[place] = (place ^ leaf) << 10 | 1 << 8 | ord("h")
    units[leaf] = 1 << 31
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + b"H \0"


WORDS = ["\u2581", "a", "b", "\u00e4", "ab", "\u2581ab", "aa", "aaa", "\u2581\u2581"]


def steps():
    """Objects that tokenizer_steps_fuzz.cpp lays over good tokenizers."""
    for table in (pre_tokenizers.PUBLISHED, pre_tokenizers.OTHERS):
        for each in table.values():
            yield {"pre_tokenizer": each}
    marks = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True}
    yield {"pre_tokenizer": marks, "decoder": marks}
    yield {"normalizer": {"type": "Sequence", "normalizers": [{"type": name} for name in ("NFC", "NFD", "NFKC", "NFKD")]}}
    characters = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(character_map()).decode()}
    yield {"normalizer": {"type": "Sequence", "normalizers": [
        characters, {"type": "Strip", "strip_left": False, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {**marks, "prepend_scheme": "always"}]},
        "decoder": marks}
    yield {"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}}
    token = {"id": 262, "content": "<s>", "special": True, "normalized": False, "lstrip": True, "rstrip": True, "single_word": True}
    yield {"added_tokens": [token, {"id": 263, "content": "he l", "special": False, "normalized": True}],
           "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                                                        {"Sequence": {"id": "A", "type_id": 0}}],
                              "special_tokens": {"<s>": {"id": "<s>", "ids": [262], "tokens": ["<s>"]}}}}


def small_model(**model):
    return {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
            "decoder": {"type": "ByteLevel"}, "model": model}


def templates(folder):
    for path in sorted((TESTS / "template" / "chat_templates").glob("*.jinja")):
        folder.add(path.read_bytes())
    reference = json.loads((TESTS / "template" / "reference.json").read_text(encoding="utf-8"))
    variables = json.dumps(reference["variables"])
    for number, snippet in enumerate(reference["snippets"]):
        if number % 3 == 0:
            folder.add(snippet["source"], variables)


def tokenizers(out):
    whole = Folder(out, "tokenizer_json")
    whole.add((TESTS / "tokenizer" / "small" / "tokenizer.json").read_bytes(), TEXT)
    whole.add(json.dumps(small_model(type="BPE", vocab={"a": 0, "b": 1, "ab": 2}, merges=["a b"])), "abba")
    whole.add(json.dumps(small_model(type="BPE", vocab={"a": 0, "b": 1, "ab": 2}, merges=[["a", "b"]],
                                     ignore_merges=True)), "abab")
    unigram = {"type": "Unigram", "unk_id": 0, "byte_fallback": True,
               "vocab": [["<unk>", 0.0], ["a", -2.0], ["b", -2.5], ["ab", -3.1], ["<0xC3>", -9], ["<0xA9>", -9], ["\u2581a", -1.25]]}
    whole.add(json.dumps({**small_model(**unigram), "pre_tokenizer": {"type": "Metaspace"}, "decoder": {"type": "Metaspace"}}),
              "ab aba\u00e9xx")
    part = Folder(out, "tokenizer_steps")
    for each in steps():
        part.add(json.dumps(each, ensure_ascii=False).encode("utf-8", "surrogatepass"), TEXT)
    beside = Folder(out, "side_files")
    beside.add((TESTS / "tokenizer" / "small" / "tokenizer_config.json").read_bytes(), "{}", "{}", TEXT)
    beside.add('{"bos_token": "<s>", "add_bos_token": true, "added_tokens_decoder": {"262": {"content": "<s>", "special": '
               'true}}}', "", "", "a <s>")
    beside.add("{}", '{"<s>": 262, "he l": 263}', '{"eos_token": {"content": "<s>"}, "additional_special_tokens": ["he l"]}',
               "the he l <s>")
    pieces = Folder(out, "sentencepiece")
    for model_type in (1, 2):
        text = field(15, "ab a\u00e4b\u00e9  abaa".encode())  # an unknown field, and the end of the input
        pieces.add(b"\1" + sentencepiece(model_type, WORDS) + text)
        pieces.add(b"\1" + sentencepiece(model_type, WORDS, normalizer=field(2, character_map()) + field(4, 1)) + text)
        pieces.add(b"\0" + sentencepiece(model_type, WORDS, byte_fallback=False) + text)
    ranks = Folder(out, "tiktoken")
    ranks.add("aGU= 256\nbGw= 257\naGVsbA== 258\n", TEXT)
    ranks.add("".join(f"{text} {rank}\n" for rank, text in enumerate(("QQ==", "QUE=", "QUFB"))), "")


def shard(documents, bytes_of_id=2, marks=None):
    """A shard of token ids (src/data/shards.h): each document a list of ids, in domain 0."""
    def padded(data):
        return data + bytes(-len(data) % 8)

    kind = "H" if bytes_of_id == 2 else "I"
    ids = [i for document in documents for i in document]
    begins = [sum(map(len, documents[:d])) for d in range(len(documents) + 1)]
    parts = [b"MOETOKEN" + struct.pack("<II", 1 if marks is None else 2, bytes_of_id), struct.pack(f"<{len(ids)}{kind}", *ids)]
    if marks is not None:
        parts.append(bytes(marks))
    parts += [struct.pack(f"<{len(begins)}Q", *begins), struct.pack(f"<{len(documents)}Q", *[3] * len(documents)),
              struct.pack(f"<{len(documents)}H", *[0] * len(documents)),
              struct.pack("<QQQ", len(documents), len(ids), 7) + b"MOETOKEN"]
    return b"".join(map(padded, parts))


def dataset(documents, vocabulary, marks=None):
    """dataset.json without the content's fingerprint, and its shard."""
    tokens = sum(map(len, documents))
    totals = {"documents": len(documents), "tokens": tokens, "bytes": 3 * len(documents)}
    described = {"format": "moe dataset", "version": 1, "vocab_size": vocabulary, "bos_id": 0, "eos_id": 1,
                 "tokenizer_fingerprint": f"{7:016x}", **totals, "domains": [{"name": "a", **totals}],
                 "shards": ["tokens-00000.bin"]}
    return json.dumps(described), shard(documents, 2 if vocabulary <= 65536 else 4, marks)


def runs(out):
    """What a run reads beside models: its file, text, compressed text, tokens, the state of a checkpoint."""
    files = Folder(out, "run_file")
    root = TESTS.parent
    for path in sorted([*root.glob("configs/*.toml"), *root.glob("configs/study/*.toml"), *TESTS.glob("**/*.toml")]):
        if path.stat().st_size < 4096:
            files.add(path.read_bytes())
    documents = Folder(out, "documents")
    for name in (b"\0", b"\1", b"\2"):
        documents.add(name + b'{"text": "a \\u00e9"}\n{"text": null, "n": 1e9}\n\n{"text": ""}\n["b"]\n')
        documents.add(name + b'["a", {"text": "b"}, [1, {"x": [true]}]]')
        documents.add(name + b"\xff\xfe" + "a\u00e9\U0001f642\n".encode("utf-16-le"))
        documents.add(name + b"\xef\xbb\xbf" + TEXT)
    packed = Folder(out, "compression")
    frame = b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello"  # one frame of zstd with one raw block
    for name in (b"\0", b"\1", b"\2"):
        packed.add(name + frame)
        packed.add(name + frame + b"\x50\x2a\x4d\x18\x02\0\0\0xx" + frame)
        packed.add(name + gzip.compress(TEXT * 20, mtime=0) + gzip.compress(b"", mtime=0))
        packed.add(name + TEXT)
    datasets = Folder(out, "dataset")
    datasets.add(*dataset([[0, 5, 6, 1], [0, 9, 1]], 10))
    datasets.add(*dataset([[0, 70000, 1]], 70001))
    datasets.add(*dataset([[0, 5, 6, 7, 8, 9, 5, 6, 7, 1], [1]], 10, [0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0]))
    states = Folder(out, "trainer_state")
    cursor = {"next_step": 3, "rows_per_step": 4, "sequence_length": 64, "dataset_fingerprint": "193cbe8aa4f034b7"}
    states.add(json.dumps({"format_version": 1, "step": 3, "seed": 1, "data_cursor": cursor, "log_bytes": 10, "eval_bytes": 0}))
    states.add(json.dumps({"format_version": 1, "step": 9, "seed": 0, "data_cursor": cursor, "log_bytes": 10, "eval_bytes": 20,
                           "second_stage": 7, "base_fingerprint": "00000000000000ff"}))


def main():
    out = pathlib.Path(sys.argv[1])
    tensors = Folder(out, "safetensors")
    one = safetensors([("x", "F32", 4, [2, 3]), ("empty", "BF16", 2, [0])], {"format": "pt"})
    two = safetensors([("y", "BOOL", 1, [5]), ("z", "F16", 2, [])])
    for data in (one, two, safetensors([])):
        tensors.add(data)
    index = Folder(out, "safetensors_index")
    names = {"x": "a.safetensors", "y": "b.safetensors"}
    same = safetensors([("y", "F32", 4, [2, 3]), ("empti", "BF16", 2, [0])], {"format": "pt"})
    index.add(json.dumps({"metadata": {"total_size": 1}, "weight_map": names}), one + same)
    index.add(json.dumps({"weight_map": {"x": "a.safetensors"}}), one + one)
    containers = Folder(out, "gguf")
    for data in gguf_containers():
        containers.add(data)
    models = Folder(out, "gguf_model")
    for data in gguf_models():
        models.add(data)
    configs = Folder(out, "config")
    for path in sorted((TESTS / "golden").glob("**/config.json")):
        configs.add(path.read_bytes())
    templates(Folder(out, "template"))
    tokenizers(out)
    runs(out)
    for folder in Folder.made:
        folder.write_dictionary()


if __name__ == "__main__":
    main()
