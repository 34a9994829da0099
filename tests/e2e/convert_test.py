"""Model folders that are written again, drawn at random and looked into: `moe convert`, `moe init`, `moe inspect`.

Usage: convert_test.py PATH_OF_MOE
"""

import hashlib
import json
import pathlib
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

from support import MOE, ROOT, moe
from commands import SmallRun

FAMILIES = ROOT / "tests" / "golden" / "families"


def tensors_of(folder):
    """{name: (type, shape, bytes)} of all safetensors files of a folder."""
    tensors = {}
    for path in sorted(folder.glob("model*.safetensors")):
        content = path.read_bytes()
        length = struct.unpack("<Q", content[:8])[0]
        for name, entry in json.loads(content[8 : 8 + length]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                tensors[name] = (entry["dtype"], entry["shape"], content[8 + length + begin : 8 + length + end])
    return tensors


def write_tensors(path, **tensors):
    """A safetensors file of {name: (type, shape, bytes)}."""
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def logits_of(model, folder):
    out = folder / "logits.safetensors"
    moe("logits", model, "--tokens", "3,5,7,4", "--out", out)
    return out.read_bytes()


class Models(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="moe-convert-test-"))
        (cls.base / "small").mkdir()
        cls.small = SmallRun(cls.base / "small")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base)

    def setUp(self):
        self.folder = self.base / self.id().rsplit(".")[-1]
        self.folder.mkdir()


class ConvertTest(Models):
    def test_tensors_keep_their_bytes(self):
        for name in ("llama", "llama_odd", "mixtral"):
            moe("convert", FAMILIES / name, self.folder / name)
            self.assertEqual(tensors_of(self.folder / name), tensors_of(FAMILIES / name), name)
            self.assertEqual(logits_of(self.folder / name, self.folder), logits_of(FAMILIES / name, self.folder), name)

    def test_fused_experts_become_tensors_of_their_own(self):
        moe("convert", FAMILIES / "mixtral_fused", self.folder / "apart")
        names = tensors_of(self.folder / "apart")
        self.assertIn("model.layers.1.block_sparse_moe.experts.3.w2.weight", names)
        self.assertNotIn("model.layers.0.mlp.experts.gate_up_proj", names)
        self.assertEqual(logits_of(self.folder / "apart", self.folder), logits_of(FAMILIES / "mixtral_fused", self.folder))

    def test_fused_experts_of_deepseek_have_the_bytes_of_those_apart(self):
        for name in ("deepseek", "deepseek_fused"):
            moe("convert", FAMILIES / name, self.folder / name)
        self.assertEqual(tensors_of(self.folder / "deepseek_fused"), tensors_of(FAMILIES / "deepseek"))
        self.assertEqual(tensors_of(self.folder / "deepseek"), tensors_of(FAMILIES / "deepseek"))

    def test_all_chat_templates_go_along(self):
        model = self.folder / "model"
        shutil.copytree(self.small.model, model)
        (model / "chat_template.jinja").write_text("one")
        (model / "additional_chat_templates").mkdir()
        (model / "additional_chat_templates" / "tool_use.jinja").write_text("two")
        moe("convert", model, self.folder / "out")
        for name in ("chat_template.jinja", "additional_chat_templates/tool_use.jinja"):
            self.assertEqual((self.folder / "out" / name).read_text(), (model / name).read_text())

    def test_a_run_becomes_its_weights_tokenizer_and_card(self):
        result = moe("convert", self.small.run, self.folder / "out")
        written = {path.name for path in (self.folder / "out").iterdir()}
        self.assertLessEqual({"config.json", "model.safetensors", "tokenizer.json", "README.md", "modeling_moe.py"}, written)
        self.assertFalse([name for name in written if name.startswith("optimizer")])
        self.assertEqual(tensors_of(self.folder / "out"), tensors_of(self.small.model))
        card = (self.folder / "out" / "README.md").read_text()
        self.assertTrue(card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-generation\n"), card)
        self.assertIn("| experts of a layer | 4 routed, 2 of them for a token; 1 shared |", card)
        self.assertRegex(result.stdout, r"routed experts +\d+ +f32 +\d+ .*0\.00e\+00")
        same = [moe("generate", model, "--prompt", "class", "--max-new-tokens", 9, "--quiet").stdout
                for model in (self.small.model, self.folder / "out")]
        self.assertEqual(same[0], same[1])

    def test_the_card_tells_of_the_run(self):
        moe("convert", self.small.run, self.folder / "shared", "--license", "apache-2.0")
        card = (self.folder / "shared" / "README.md").read_text()
        self.assertTrue(card.startswith("---\nlicense: apache-2.0\nlibrary_name: transformers\n"), card)
        self.assertIn("\n# shared\n", card)
        last = [line for line in map(json.loads, (self.small.run / "log.jsonl").read_text().splitlines()) if "step" in line][-1]
        layer = last["layers"][0]
        self.assertIn(f"| {layer['layer']} | {layer['load_entropy']:.3f} | {layer['max_over_mean_load']:.2f} | {layer['dead_experts']} |",
                      card)
        scores = json.loads((self.small.run / "eval.jsonl").read_text().splitlines()[-1])
        for name, found in [*scores["domains"].items(), ("all", scores)]:
            self.assertIn(f"| {name} | {found['loss']:.4f} | {found['bits_per_byte']:.4f} | {found['tokens']} |", card)
        totals = json.loads((self.small.base / "dataset" / "dataset.json").read_text())["domains"][0]
        self.assertIn(f"| headers | {totals['documents']} | {totals['tokens']} | {totals['bytes']} |", card)
        self.assertIn(f"| seed | {json.loads((self.small.model / 'trainer_state.json').read_text())['seed']} |", card)
        self.assertNotIn(str(self.small.base), card)  # no path of this machine
        moe("convert", self.folder / "shared", self.folder / "again")  # not a run any more
        self.assertNotIn("## Recipe", (self.folder / "again" / "README.md").read_text())

    def test_types(self):
        for dtype, label, most in (("bf16", "BF16", 2**-9), ("f16", "F16", 2**-11), ("f32", "F32", 0)):
            result = moe("convert", self.small.run, self.folder / dtype, "--dtype", dtype)
            tensors = tensors_of(self.folder / dtype)
            self.assertEqual({entry[0] for entry in tensors.values()}, {label})
            self.assertEqual(json.loads((self.folder / dtype / "config.json").read_text())["torch_dtype"],
                             {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[dtype])
            errors = [float(line.split()[-1]) for line in result.stdout.splitlines()[1:-1]]
            self.assertLessEqual(max(errors), most)
            self.assertTrue(dtype == "f32" or max(errors) > most / 8, errors)
        moe("convert", self.folder / "bf16", self.folder / "again", "--dtype", "f32")
        moe("convert", self.folder / "again", self.folder / "twice", "--dtype", "bf16")
        self.assertEqual(tensors_of(self.folder / "twice"), tensors_of(self.folder / "bf16"))

    def test_mistakes_come_before_the_work(self):
        (self.folder / "full").mkdir()
        (self.folder / "full" / "file").touch()
        absent = self.folder / "absent"
        for arguments, sentence in (
            (["convert", self.small.run, self.folder / "full"], "full exists already; remove it or choose another folder"),
            (["convert", self.small.run, self.small.base / "run.toml"], "run.toml"),
            (["convert", absent, self.folder / "out"], "absent is not a folder"),
            (["convert", self.small.run, self.folder / "out", "--dtype", "q4"], "--dtype q4: expected f32, bf16 or f16"),
            (["convert", self.small.run, self.folder / "out", "--quant", "q8_0"], "--quant q8_0: only a GGUF file holds blocks"),
            (["convert", self.small.run, self.folder / "out.gguf", "--quant", "q3_k"], "--quant q3_k: expected one of q8_0, q4_0"),
            (["convert", self.small.run, self.folder / "out.gguf", "--quant", "q8_0", "--dtype", "f16"], "give one of the two"),
            (["convert", self.small.run, self.folder / "no" / "out.gguf"], "out.gguf"),
            (["convert", self.small.run, self.folder / "out", "--license", "MIT License"], "--license MIT License: expected an"),
            (["init", "--out", self.folder / "out"], "give --preset NAME or --config FILE, one of the two"),
            (["init", "--preset", "deepseekmoe-17b", "--out", self.folder / "out"], "deepseekmoe-16b"),
            (["inspect", absent], "absent is not a folder"),
        ):
            result = moe(*arguments, check=False)
            self.assertNotEqual(result.returncode, 0, arguments)
            self.assertIn(sentence, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["full"])

    def test_a_killed_conversion_leaves_nothing(self):
        moe("init", "--config", self.small.run_file, "--set", "model.hidden_size=512", "--set", "model.moe_intermediate_size=2048",
            "--out", self.folder / "large")
        for moment in (0.0, 0.01, 0.03, 0.06):
            process = subprocess.Popen([MOE, "convert", self.folder / "large", self.folder / "out", "--dtype", "bf16"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            if process.wait() == 0:
                shutil.rmtree(self.folder / "out")
                continue
            self.assertFalse((self.folder / "out").exists())
        moe("convert", self.folder / "large", self.folder / "out", "--dtype", "bf16")
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["large", "out"])  # leftovers are swept


class GgufTest(Models):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = cls.base / "model"
        wide = ["--set", "model.hidden_size=64", "--set", "model.moe_intermediate_size=32"]  # whole blocks
        moe("init", "--config", cls.small.run_file, *wide, "--seed", 2, "--out", cls.model)
        moe("tokenizer", "train", "--vocab-size", 300, "--pattern", "qwen2", "--out", cls.model, cls.small.text)

    def test_a_file_is_a_model_for_every_command(self):
        path, back = self.folder / "small.gguf", self.folder / "back"
        moe("convert", self.model, path, "--license", "mit")
        self.assertIn(b"general.license", path.read_bytes())
        prompt = ["--prompt", "class", "--max-new-tokens", 9, "--quiet"]
        self.assertEqual(moe("generate", path, *prompt).stdout, moe("generate", self.model, *prompt).stdout)
        self.assertEqual(logits_of(path, self.folder), logits_of(self.model, self.folder))
        text = self.folder / "text.txt"
        text.write_text("class Foo:\n    pass\n")
        losses = [json.loads(moe("eval", "loss", model, text, "--json", "-").stdout)["domains"] for model in (path, self.model)]
        self.assertEqual(losses[0], losses[1])
        report = json.loads(moe("inspect", path, "--json").stdout)
        self.assertEqual((report["family"], report["gguf"], report["tokenizer"]), ("deepseek", "architecture deepseek", "300 ids"))
        self.assertIn("blk.1.ffn_down_exps.weight", [tensor["name"] for tensor in report["tensors"]])
        moe("convert", path, back)
        self.assertEqual(tensors_of(back), tensors_of(self.model))
        encode = lambda where: moe("tokenizer", "encode", "--tokenizer", where, input="class Foo:\n  \u00e9 12").stdout
        self.assertEqual(encode(back), encode(self.model))
        self.assertEqual(encode(path), encode(self.model))

    def test_inspect_knows_what_a_file_cannot_say_of_a_tokenizer(self):
        gguf_of = lambda model: json.loads(moe("inspect", model, "--json").stdout)["gguf"]
        self.assertEqual(gguf_of(self.model), "architecture deepseek")
        model = self.folder / "model"
        moe("init", "--config", self.small.run_file, "--out", model)
        moe("tokenizer", "train", "--vocab-size", 300, "--out", model, self.small.text)
        refused = moe("convert", model, self.folder / "model.gguf", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("cannot have this tokenizer", gguf_of(model))
        self.assertIn(gguf_of(model), refused.stderr)

    def test_the_chat_template_goes_along(self):
        model, path, back = self.folder / "model", self.folder / "model.gguf", self.folder / "back"
        shutil.copytree(self.model, model)
        (model / "chat_template.jinja").write_text("{{ messages[0]['content'] }}{{ eos_token }}!")
        variables = self.folder / "variables.json"
        variables.write_text('{"messages": [{"role": "user", "content": "Hi"}]}')
        moe("convert", model, path)
        moe("convert", path, back)
        texts = {moe("tokenizer", "apply-template", "--tokenizer", where, "--variables", variables).stdout
                 for where in (model, path, back)}
        self.assertEqual(len(texts), 1)
        self.assertTrue(texts.pop().startswith("Hi<"))

    def test_blocks(self):
        for kind, number in (("q8_0", 7), ("q4_k_m", 15)):
            path = self.folder / f"{kind}.gguf"
            table = moe("convert", self.model, path, "--quant", kind).stdout
            self.assertRegex(table, r"routers +\d+ +f32 ")
            self.assertRegex(table, r"routed experts +\d+ +q(8|5)_0 ")
            moe("generate", path, "--prompt", "class", "--max-new-tokens", 2, "--dtype", "q8_0", "--quiet")
            moe("convert", path, self.folder / f"{kind}-back", "--dtype", "bf16")

    def test_what_llama_cpp_does_not_compute_is_refused(self):
        model = self.folder / "model"
        moe("init", "--config", self.small.run_file, "--set", "model.norm_topk_prob=true", "--out", model)
        result = moe("convert", model, self.folder / "model.gguf", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("GGUF has no form for this model: norm_topk_prob is true", result.stderr)
        self.assertIn("GGUF has no form", moe("inspect", model).stdout)
        self.assertFalse((self.folder / "model.gguf").exists())

    def test_a_tokenizer_that_llama_cpp_does_not_have_is_refused(self):
        result = moe("convert", self.small.run, self.folder / "run.gguf", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("moe tokenizer train --pattern qwen2 makes one that has", result.stderr)
        moe("convert", self.small.run, self.folder / "run.gguf", "--no-tokenizer")
        self.assertEqual(logits_of(self.folder / "run.gguf", self.folder), logits_of(self.small.run, self.folder))

    def test_random_weights_of_any_size(self):
        path, folder = self.folder / "drawn.gguf", self.folder / "drawn"
        moe("init", "--config", self.small.run_file, "--seed", 3, "--out", path)
        moe("init", "--config", self.small.run_file, "--seed", 3, "--out", folder)
        self.assertEqual(logits_of(path, self.folder), logits_of(folder, self.folder))
        result = moe("generate", path, "--prompt", "a", check=False)
        self.assertIn("the file has no tokenizer", result.stderr)

    def test_a_killed_conversion_leaves_nothing(self):
        moe("init", "--config", self.small.run_file, "--set", "model.hidden_size=512", "--set", "model.moe_intermediate_size=2048",
            "--out", self.folder / "large.gguf")
        for moment in (0.0, 0.02, 0.06):
            process = subprocess.Popen([MOE, "convert", self.folder / "large.gguf", self.folder / "out.gguf", "--quant", "q4_0"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            if process.wait() == 0:
                (self.folder / "out.gguf").unlink()
                continue
            self.assertFalse((self.folder / "out.gguf").exists())
        moe("convert", self.folder / "large.gguf", self.folder / "out.gguf", "--quant", "q4_0")
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["large.gguf", "out.gguf"])  # swept


def checked(output):
    """What --check prints: {name: number or share}, layers by their number."""
    lines = output.split("\ncheck on ", 1)[1].splitlines()
    return lines[0], {line[:16].strip(): line[16:].strip() for line in lines[1:]}


class CheckTest(Models):
    def loss(self, model, text):
        report = self.folder / "loss.json"
        moe("eval", "loss", model, text, "--device", "cpu", "--json", report)
        return json.loads(report.read_text())["all"]

    def text(self, name, size):
        path = self.folder / name
        path.write_text((ROOT / "docs" / "training.md").read_text()[:size])
        return path

    def test_a_conversion_that_keeps_the_numbers_changes_nothing(self):
        text = self.text("short.md", 1500)
        result = moe("convert", self.small.run, self.folder / "out", "--check", text)
        head, found = checked(result.stdout)
        expected = self.loss(self.small.model, text)
        self.assertEqual(head, f"{expected['tokens'] + 1} tokens of {text}")
        self.assertEqual([found["1"], found["all"]], ["100.00%", "100.00%"], found)
        self.assertEqual(found["loss before"], found["loss after"])
        self.assertEqual(float(found["change"]), 0)
        self.assertAlmostEqual(float(found["loss before"]), expected["loss"], delta=1e-6)

    def test_quantised_weights_change_choices_and_the_loss(self):
        text, out = self.text("short.md", 1500), self.folder / "out.gguf"
        source = self.folder / "source"
        moe("convert", self.small.run, source)
        result = moe("convert", source, out, "--quant", "q4_0", "--no-tokenizer", "--check", text)
        _, found = checked(result.stdout)
        before, after = self.loss(source, text)["loss"], float(found["loss after"])
        self.assertAlmostEqual(float(found["loss before"]), before, delta=1e-6)
        self.assertNotEqual(after, before)
        self.assertAlmostEqual(float(found["change"]), after - before, delta=2e-6)
        self.assertGreater(float(found["all"][:-1]), 50)
        back = self.folder / "back"
        moe("convert", out, back)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(source / name, back / name)
        self.assertAlmostEqual(after, self.loss(back, text)["loss"], delta=1e-6)

    def test_longer_text_is_cut(self):
        result = moe("convert", self.small.run, self.folder / "out", "--check", self.text("long.md", 40000))
        self.assertIn("4096 tokens of", checked(result.stdout)[0])

    def test_what_is_missing_is_said_before_the_work(self):
        drawn, empty = self.folder / "drawn.gguf", self.folder / "empty.txt"
        moe("init", "--config", self.small.run_file, "--out", drawn)
        empty.touch()
        text = self.text("short.md", 100)
        for source, file, sentence in ((drawn, text, "drawn.gguf has no tokenizer, which makes tokens of"),
                                       (self.small.run, self.folder / "absent.txt", "absent.txt"),
                                       (self.small.run, empty, "empty.txt holds no document with text"),
                                       (self.small.run, self.small.model / "model.safetensors", "cannot tell from its name")):
            result = moe("convert", source, self.folder / "out", "--check", file, check=False)
            self.assertNotEqual(result.returncode, 0)
            self.assertIn(sentence, result.stderr)
            self.assertFalse((self.folder / "out").exists())


class VerifyTest(Models):
    def test_models_of_any_format_are_compared_layer_by_layer(self):
        model, same, coarse = self.small.model, self.folder / "same.gguf", self.folder / "coarse.gguf"
        moe("convert", model, same, "--no-tokenizer")
        moe("convert", model, coarse, "--no-tokenizer", "--quant", "q8_0")
        result = moe("verify", same, model)
        lines = result.stdout.splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["tensor", "hidden.0", "hidden.1", "hidden.2", "logits"])
        self.assertEqual({line.split()[1] for line in lines[1:]}, {"0.00e+00"})
        self.assertNotIn("0.00e+00", moe("verify", coarse, model, "--tokens", "5,6,7").stdout)
        self.assertIn("no token id", moe("verify", coarse, model, "--tokens", "", check=False).stderr)
        far = moe("verify", coarse, model, "--tolerance", "1e-6", check=False)
        self.assertEqual(far.returncode, 1)
        self.assertIn("hidden.0 is the first tensor that differs by more than 1.0e-06", far.stderr)

    def test_references_of_another_program(self):
        for name in ("llama", "qwen2_moe"):
            folder = FAMILIES / name
            data = (folder / "references.safetensors").read_bytes()
            length = struct.unpack("<Q", data[:8])[0]
            begin, end = json.loads(data[8 : 8 + length])["input.tokens"]["data_offsets"]
            tokens = struct.unpack("<6i", data[8 + length + begin : 8 + length + end][:24])
            logits = struct.unpack_from("<240f", data, 8 + length + json.loads(data[8 : 8 + length])["logits"]["data_offsets"][0])
            self.assertEqual(json.loads((folder / "config.json").read_text())["vocab_size"], 40)
            path = self.folder / f"{name}.safetensors"
            write_tensors(path, tokens=("I32", [6], struct.pack("<6i", *tokens)),
                          logits=("F32", [6, 40], struct.pack("<240f", *logits)))
            result = moe("verify", folder, path, "--tolerance", "1e-5")
            self.assertIn("all tensors agree to within 1.0e-05 on 6 tokens", result.stderr)
            other = moe("verify", FAMILIES / f"{name}_odd", path, check=False)
            self.assertEqual(other.returncode, 1)

    def test_every_reference_is_compared_or_refused(self):
        dtype, shape, content = tensors_of(FAMILIES / "llama")["model.embed_tokens.weight"]  # hidden.0 of all tokens
        embedding = (dtype, shape, content)
        tokens = ("I32", [40], struct.pack("<40i", *range(40)))
        zeros = ("F32", shape, bytes(len(content)))
        path = self.folder / "references.safetensors"

        def verify(**tensors):
            write_tensors(path, tokens=tokens, **{name.replace("_", "."): tensor for name, tensor in tensors.items()})
            return moe("verify", FAMILIES / "llama", path, check=False)

        self.assertEqual(verify(hidden_0=embedding).returncode, 0)
        for wrong in ({"hidden_1": zeros}, {"hidden_0": embedding, "hidden_2": zeros}):
            result = verify(**wrong)
            self.assertEqual(result.returncode, 1)
            self.assertIn(f"{list(wrong)[-1].replace('_', '.')} is the first tensor that differs", result.stderr)
        for name in ("hidden_9", "hidden_00", "foo"):
            result = verify(hidden_0=embedding, **{name: zeros})
            self.assertEqual(result.returncode, 1)
            self.assertIn(f"{name.replace('_', '.')} is not a tensor that is compared, expected tokens, hidden.0 to hidden.2",
                          result.stderr)

    def test_the_type_of_the_references_gives_room(self):
        _, shape, content = tensors_of(FAMILIES / "llama")["model.embed_tokens.weight"]
        floats = struct.unpack(f"<{len(content) // 4}f", content)
        tokens = ("I32", [40], struct.pack("<40i", *range(40)))
        path = self.folder / "references.safetensors"
        for dtype, pack in (("F16", lambda x: struct.pack("<e", x)), ("BF16", lambda x: struct.pack("<f", x)[2:])):
            for factor, status in ((1, 0), (1.2, 1)):
                rounded = b"".join(pack(factor * x) for x in floats)
                write_tensors(path, **{"tokens": tokens, "hidden.0": (dtype, shape, rounded)})
                self.assertEqual(moe("verify", FAMILIES / "llama", path, check=False).returncode, status, (dtype, factor))


class InitTest(Models):
    def test_what_does_not_fit_the_disk_is_refused_first(self):
        for out in ("vast", "vast.gguf"):
            result = moe("init", "--config", self.small.run_file, "--set", "model.vocab_size=2147483647",
                         "--set", "model.hidden_size=8192", "--out", self.folder / out, check=False)
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertRegex(result.stderr, r"needs [0-9.]+ GB, but its disk has [0-9.]+ GB free")
            self.assertEqual([path for path in self.folder.iterdir() if path.name.startswith("vast")], [])

    def test_the_same_seed_gives_the_weights_that_training_begins_with(self):
        begun = self.folder / "run"
        moe("train", self.small.run_file, "--set", f"run.dir={begun}", "--set", "train.steps=1",
            "--set", "optimizer.learning_rate=0", "--set", "train.seed=5", "--set", "optimizer.weight_decay=0")
        moe("init", "--config", self.small.run_file, "--seed", 5, "--out", self.folder / "drawn")
        self.assertEqual(tensors_of(self.folder / "drawn"), tensors_of(begun / "latest"))
        moe("init", "--config", self.small.run_file, "--seed", 6, "--out", self.folder / "other")
        self.assertNotEqual(tensors_of(self.folder / "other"), tensors_of(self.folder / "drawn"))

    def test_any_number_of_threads_gives_the_same_file(self):
        digests = set()
        for threads in (1, 2, 3):
            out = self.folder / str(threads)
            moe("init", "--config", self.small.run_file, "--dtype", "bf16", "--threads", threads, "--out", out)
            digests.add(hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest())
        self.assertEqual(len(digests), 1)


class InspectTest(Models):
    def test_what_is_in_a_run(self):
        report = json.loads(moe("inspect", self.small.run, "--json").stdout)
        self.assertEqual((report["family"], report["class"]), ("deepseek", "DeepseekForCausalLM"))
        self.assertEqual({tensor["name"] for tensor in report["tensors"]}, set(tensors_of(self.small.model)))
        self.assertEqual(report["parameters"], sum(len(entry[2]) // 4 for entry in tensors_of(self.small.model).values()))
        self.assertEqual(report["uses"], ["generate", "chat", "eval loss", "trace", "logits", "verify", "convert", "cost",
                                          "train (model.from)"])
        self.assertEqual(report["chat_template"], "the chat format of DeepSeekMoE, built in")
        text = moe("inspect", self.small.run).stdout
        self.assertIn("experts     4 routed, 2 of them for a token; 1 shared\n", text)
        self.assertIn("tokenizer   300 ids\n", text)

    def test_a_model_without_a_tokenizer(self):
        report = json.loads(moe("inspect", FAMILIES / "mixtral", "--json").stdout)
        self.assertEqual(report["uses"], ["logits", "verify", "convert", "cost", "train (model.from)"])
        self.assertEqual(report["files"], 4)
        self.assertEqual(report["chat_template"], "none")

    def test_a_damaged_model_is_named(self):
        damaged = self.folder / "damaged"
        shutil.copytree(FAMILIES / "llama", damaged)
        content = (damaged / "model.safetensors").read_bytes()
        (damaged / "model.safetensors").write_bytes(content[:-4])
        result = moe("inspect", damaged, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("damaged/model.safetensors", result.stderr)


if __name__ == "__main__":
    unittest.main()
