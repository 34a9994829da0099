"""moe logits and moe generate as a user types them: what they write and where, and users' mistakes.

Usage: inference_test.py PATH_OF_MOE
"""

import array
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

MOE = pathlib.Path(sys.argv.pop(1)).resolve()
ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "moe_basic"
VOCAB_SIZE = 310  # more rows than the tokenizer has tokens
TEXT = "The quick brown fox jumps over the lazy dog. 敏捷的棕色狐狸跳过了懒狗。 Überall größere Füchse!\n" * 40


def run(*arguments, stdin=None, stdout=subprocess.PIPE):
    command = [MOE, *map(str, arguments)]
    given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    return subprocess.run(command, **given, stdout=stdout, stderr=subprocess.PIPE)


def read_safetensors(path):
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            code = {"F32": "f", "I32": "i"}[entry["dtype"]]
            tensors[name] = (entry["dtype"], entry["shape"], array.array(code, data[begin:end]))
    return tensors


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + 4 * len(values)]}
        offset += 4 * len(values)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, values in tensors.values():
            file.write(values.tobytes())


def weight_shapes(config):
    """Names and shapes of a model whose first layer is dense."""
    hidden, width = config["hidden_size"], config["moe_intermediate_size"]

    def ffn(prefix, inner):
        return {
            f"{prefix}.gate_proj.weight": [inner, hidden],
            f"{prefix}.up_proj.weight": [inner, hidden],
            f"{prefix}.down_proj.weight": [hidden, inner],
        }

    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden]}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.{name}_layernorm.weight": [hidden] for name in ("input", "post_attention")}
        shapes |= {f"{prefix}.self_attn.{name}_proj.weight": [hidden, hidden] for name in "qkvo"}
        if layer == 0:
            shapes |= ffn(f"{prefix}.mlp", config["intermediate_size"])
            continue
        shapes[f"{prefix}.mlp.gate.weight"] = [config["n_routed_experts"], hidden]
        shapes |= ffn(f"{prefix}.mlp.shared_experts", config["n_shared_experts"] * width)
        for expert in range(config["n_routed_experts"]):
            shapes |= ffn(f"{prefix}.mlp.experts.{expert}", width)
    return shapes | {"model.norm.weight": [hidden], "lm_head.weight": [config["vocab_size"], hidden]}


def make_model(folder, max_positions):
    """A small random model with a tokenizer trained here."""
    folder.mkdir()
    (folder / "text.txt").write_text(TEXT)
    trained = run("tokenizer", "train", "--vocab-size", 300, "--out", folder, folder / "text.txt")
    assert trained.returncode == 0, trained.stderr
    config = {
        "model_type": "deepseek",
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 24,
        "intermediate_size": 32,
        "moe_intermediate_size": 10,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "n_shared_experts": 1,
        "n_routed_experts": 5,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "max_position_embeddings": max_positions,
    }
    (folder / "config.json").write_text(json.dumps(config))
    draw = random.Random(1)
    tensors = {}
    for name, shape in weight_shapes(config).items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = [1.0] * count if "norm" in name else [draw.gauss(0, 0.3) for _ in range(count)]
        tensors[name] = (shape, array.array("f", values))
    write_safetensors(folder / "model.safetensors", tensors)


class Folder(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="moe-test-"))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def expect_error(self, status, sentence, *arguments):
        result = run(*arguments)
        self.assertIn(sentence, result.stderr.decode())
        self.assertEqual(result.returncode, status)
        self.assertEqual(result.stdout, b"")


class Logits(Folder):
    def logits(self, *options, name="logits.safetensors"):
        path = self.folder / name
        result = run("logits", GOLDEN, "--out", path, *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout, b"")
        tensors = read_safetensors(path)
        self.assertEqual(list(tensors), ["logits"])
        return tensors["logits"]

    def golden(self):
        """The ids of the first document of the golden batch, and the reference's logits."""
        tensors = read_safetensors(GOLDEN / "golden.safetensors")
        starts = tensors["input.segment_start"][2]
        count = next(i for i in range(len(starts)) if starts[i] != 0)
        vocab_size = tensors["logits"][1][1]
        self.assertGreater(count, 3)
        return tensors["input.tokens"][2][:count], tensors["logits"][2][: count * vocab_size], vocab_size

    def error(self, found, expected):
        return max(abs(a - b) for a, b in zip(found, expected, strict=True)) / max(map(abs, expected))

    def test_agrees_with_the_reference(self):
        ids, expected, vocab_size = self.golden()
        dtype, shape, found = self.logits("--tokens", ",".join(map(str, ids)))
        self.assertEqual((dtype, shape), ("F32", [len(ids), vocab_size]))
        self.assertLess(self.error(found, expected), 1e-5)

    def test_bf16_is_near_and_the_file_is_f32(self):
        ids, expected, _ = self.golden()
        dtype, _, found = self.logits("--tokens", ",".join(map(str, ids)), "--dtype", "bf16")
        self.assertEqual(dtype, "F32")
        self.assertLess(self.error(found, expected), 0.1)
        self.assertGreater(self.error(found, expected), 1e-4)

    def test_ids_from_a_file_and_any_number_of_threads_give_the_same_bytes(self):
        ids = [(7 * i) % 67 for i in range(300)]
        (self.folder / "ids.txt").write_text(" ".join(map(str, ids)) + "\n")
        self.logits("--tokens", ",".join(map(str, ids)), "--threads", 1, name="a")
        self.logits("--tokens-file", self.folder / "ids.txt", "--threads", 2, name="b")
        self.assertEqual((self.folder / "a").read_bytes(), (self.folder / "b").read_bytes())

    def test_an_id_out_of_range_is_named_with_its_position(self):
        out = self.folder / "none.safetensors"
        sentence = "--tokens: token 67 at position 2 is outside the model's vocabulary, expected ids from 0 to 66"
        self.expect_error(1, sentence, "logits", GOLDEN, "--tokens", "1,2,67", "--out", out)
        self.expect_error(1, "token -1 at position 0", "logits", GOLDEN, "--tokens", "-1,2", "--out", out)
        self.assertEqual([path.name for path in self.folder.glob("none*")], [])

    def test_mistakes_in_the_ids(self):
        (self.folder / "empty.txt").write_text("\n")
        arguments = ("logits", GOLDEN, "--out", self.folder / "none")
        self.expect_error(2, "there is no token id: give --tokens 1,2,3 or --tokens-file FILE", *arguments)
        self.expect_error(2, "there is no token id", *arguments, "--tokens", "")
        self.expect_error(1, "--tokens: there is no token id, expected at least one", *arguments, "--tokens", " , ")
        self.expect_error(1, "empty.txt: there is no token id", *arguments, "--tokens-file", self.folder / "empty.txt")
        self.expect_error(1, 'found "two" at byte 2, expected a token id', *arguments, "--tokens", "1,two")
        self.expect_error(1, 'found "99999999999" at byte 0', *arguments, "--tokens", "99999999999")
        self.expect_error(2, "excludes", *arguments, "--tokens", "1", "--tokens-file", self.folder / "empty.txt")
        self.expect_error(1, "absent.txt", *arguments, "--tokens-file", self.folder / "absent.txt")

    def test_mistakes_in_the_rest(self):
        arguments = ("logits", GOLDEN, "--tokens", "1,2")
        out = ("--out", self.folder / "none")
        self.expect_error(2, "--out is required", *arguments)
        self.expect_error(2, "--dtype int4: expected f32, bf16, f16, q8_0, ", *arguments, *out, "--dtype", "int4")
        self.expect_error(1, "; or use --device cpu", *arguments, *out, "--device", "cuda")
        self.expect_error(2, "--device tpu: there is no such device", *arguments, *out, "--device", "tpu")
        self.expect_error(2, "--threads -1: expected a whole number from 0 to 1024", *arguments, *out, "--threads", "-1")
        self.expect_error(1, "config.json", "logits", self.folder, "--tokens", "1", *out)
        self.expect_error(1, "absent/x", *arguments, "--out", self.folder / "absent" / "x")

    def test_a_model_of_another_kind_is_refused_by_name(self):
        other = self.folder / "other"
        other.mkdir()
        config = json.loads((GOLDEN / "config.json").read_text())
        (other / "config.json").write_text(json.dumps(config | {"model_type": "deepseek_v2"}))
        sentence = 'model_type is "deepseek_v2", expected one of deepseek, llama, mixtral'
        self.expect_error(1, sentence, "logits", other, "--tokens", "1", "--out", self.folder / "none")


class Generate(Folder):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = cls.folder / "model"
        make_model(cls.model, max_positions=4096)

    def generate(self, *options, model=None):
        result = run("generate", model or self.model, *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result

    def test_stdout_carries_the_continuation_alone(self):
        result = self.generate("--prompt", "The quick", "--max-new-tokens", 30)
        self.assertNotEqual(result.stdout, b"")
        self.assertIn(b"M parameters, 2 layers", result.stderr)
        self.assertIn(b"tokens/s", result.stderr)
        quiet = self.generate("--prompt", "The quick", "--max-new-tokens", 30, "--quiet")
        self.assertEqual(quiet.stderr, b"")
        self.assertEqual(quiet.stdout, result.stdout)
        self.assertNotIn(b"The quick", result.stdout)

    def test_is_what_the_logits_say(self):
        """Greedy decoding by the logits of each whole prefix, without a cache."""
        encode = run("tokenizer", "encode", "--tokenizer", self.model, stdin=b"brown fox")
        prompt = ids = [int(word) for word in encode.stdout.split()]
        tokens = 300
        for _ in range(12):
            out = self.folder / "step.safetensors"
            done = run("logits", self.model, "--tokens", ",".join(map(str, ids)), "--out", out)
            self.assertEqual(done.returncode, 0, done.stderr)
            row = read_safetensors(out)["logits"][2][-VOCAB_SIZE:][:tokens]  # rows beyond the tokenizer's stay out
            ids = ids + [max(range(tokens), key=row.__getitem__)]
        written = " ".join(map(str, ids[len(prompt) :])).encode()
        decoded = run("tokenizer", "decode", "--tokenizer", self.model, stdin=written)
        found = self.generate("--prompt", "brown fox", "--temperature", 0, "--max-new-tokens", 12)
        # Without the start of an unfinished character, which decoding with "replace" shows as one character.
        expected = decoded.stdout.decode(errors="replace")
        self.assertIn(found.stdout.decode(), (expected, expected[:-1]))
        self.assertGreater(len(found.stdout), 4)

    def test_seed_and_threads(self):
        def text(*options):
            return self.generate("--prompt", "fox", "--max-new-tokens", 40, *options).stdout

        self.assertEqual(text("--seed", 5, "--threads", 1), text("--seed", 5, "--threads", 2))
        self.assertNotEqual(text("--seed", 5), text("--seed", 6))
        greedy = ("--temperature", 0)
        self.assertEqual(text(*greedy, "--seed", 5), text(*greedy, "--seed", 6))
        self.assertEqual(text("--top-k", 1), text(*greedy))
        self.assertNotEqual(text("--seed", 5, "--dtype", "bf16"), b"")

    def test_prompts_from_a_file_and_from_nothing(self):
        (self.folder / "prompt.txt").write_bytes("größere 狐狸\n".encode())
        options = ("--max-new-tokens", 20, "--seed", 2)
        from_file = self.generate("--prompt-file", self.folder / "prompt.txt", *options)
        self.assertEqual(from_file.stdout, self.generate("--prompt", "größere 狐狸\n", *options).stdout)
        pipe = run("generate", self.model, "--prompt-file", "/dev/stdin", *options, stdin="größere 狐狸\n".encode())
        self.assertEqual(pipe.stdout, from_file.stdout)
        self.assertIn(b"prompt: 1 token,", self.generate(*options).stderr)  # BOS
        self.assertEqual(self.generate(*options).stdout, self.generate("--prompt", "", *options).stdout)

    def test_stops_before_a_string(self):
        whole = self.generate("--prompt", "fox", "--max-new-tokens", 60, "--temperature", 0).stdout
        whole = whole.decode()
        stop = whole[5:9]
        self.assertEqual(len(stop), 4)
        expected = whole[: whole.index(stop)]
        found = self.generate("--prompt", "fox", "--temperature", 0, "--stop", "never", "--stop", stop)
        self.assertEqual(found.stdout.decode(), expected)
        self.assertIn(b"a stop string was reached", found.stderr)

    def test_stops_where_the_model_has_no_further_position(self):
        small = self.folder / "small"
        make_model(small, max_positions=16)
        result = self.generate("--prompt", "fox", "--max-new-tokens", 500, model=small)
        self.assertIn(b"the context is full (max_position_embeddings, or --context)", result.stderr)
        long_prompt = "The quick brown fox " * 20
        sentence = "but the model takes 16 in all (max_position_embeddings)"
        self.expect_error(1, sentence, "generate", small, "--prompt", long_prompt, "--quiet")

    def test_ctrl_c_ends_it_with_130(self):
        command = [MOE, "generate", self.model, "--prompt", "fox", "--max-new-tokens", "100000", "--quiet"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            first = process.stdout.read(1)  # streamed while the rest is still being written
            self.assertIsNone(process.poll())
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        self.assertEqual(len(first), 1)
        self.assertEqual(process.returncode, 130)

    def test_a_full_disk_is_an_error(self):
        with open("/dev/full", "wb") as full:
            result = run("generate", self.model, "--prompt", "fox", "--quiet", stdout=full)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"error: standard output could not be written: No space left on device", result.stderr)

    def test_mistakes_in_the_options(self):
        def expect(sentence, *options, status=2):
            self.expect_error(status, sentence, "generate", self.model, "--quiet", *options)

        expect("--temperature -1: expected a number from 0 to 1000000", "--temperature", "-1")
        expect("--top-k -1: expected a whole number from 0 to ", "--top-k", "-1")
        expect("--top-p 0: expected a number above 0 and at most 1", "--top-p", "0")
        expect("--min-p 2: expected a number from 0 to 1", "--min-p", "2")
        expect("--repetition-penalty 0: expected a number from 0.001 to 1000", "--repetition-penalty", "0")
        expect("--max-new-tokens 0: expected a whole number from 1 to ", "--max-new-tokens", "0")
        expect("--stop: an empty string", "--stop", "")
        expect("--stop \N{REPLACEMENT CHARACTER}: it is not UTF-8", "--stop", os.fsdecode(b"\xff"))
        expect("--seed one: expected a whole number", "--seed", "one")
        expect("--dtype int4: expected f32, bf16, f16, q8_0, ", "--dtype", "int4")
        config = json.loads((self.model / "config.json").read_text())
        experts, used = config["n_routed_experts"], config["num_experts_per_tok"]
        expect(f"{experts + 1} experts for a token are more than the {experts} routed experts; --experts-per-token takes "
               f"1 to {experts}", "--prompt", "a", "--experts-per-token", experts + 1, status=1)
        expect(f"{experts} best experts to skip and {used} to choose are more than the {experts} routed experts; "
               f"--mask-best takes 0 to {experts - used}", "--prompt", "a", "--mask-best", experts, status=1)
        expect("excludes", "--prompt", "a", "--prompt-file", "b")
        expect("absent.txt", "--prompt-file", self.folder / "absent.txt", status=1)
        expect("; or use --device cpu", "--device", "cuda", status=1)  # why depends on the build and the machine
        expect("--device tpu: there is no such device; use cuda, cpu, or auto", "--device", "tpu")
        self.expect_error(2, "MODEL_DIR is required", "generate")

    def test_folders_that_are_no_model_with_a_tokenizer(self):
        self.expect_error(1, "no tokenizer.json in this folder", "generate", GOLDEN, "--prompt", "a")
        self.expect_error(1, "config.json", "generate", self.folder / "absent", "--prompt", "a")
        foreign = self.folder / "foreign"
        shutil.copytree(GOLDEN, foreign)
        shutil.copy(self.model / "tokenizer.json", foreign)
        sentence = "the tokenizer has ids up to 299, but the model's vocab_size is 67; they do not belong together"
        self.expect_error(1, sentence, "generate", foreign, "--prompt", "a", "--quiet")


if __name__ == "__main__":
    unittest.main(verbosity=2)
