#!/usr/bin/env python3
"""Compares our GGUF files and block types with the package `gguf`.

  compare_gguf.py --tool build/tests/gguf/gguf_tool [--venv build/venv]

Random bytes and random numbers through every block type; files that the package writes, read by us; files that we write,
read by the package. Exit status 77 (a skip for CTest) where the package is missing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from python_packages import use_python_with  # noqa: E402

BLOCKS = ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k")
TOOL = None


def tool(*words):
    return subprocess.run([TOOL, *map(str, words)], check=True, capture_output=True, text=True).stdout


class Case(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name)
        self.random = np.random.default_rng(7)

    def convert(self, word, kind, array):
        array.tofile(self.folder / "in")
        tool(word, kind, self.folder / "in", self.folder / "out")
        return np.fromfile(self.folder / "out", dtype=np.uint8 if word == "quantize" else np.float32)


class BlockTypes(Case):
    def numbers(self, block):
        shapes = [self.random.normal(size=(300, block)), self.random.normal(size=(300, block)) * 0.02,
                  self.random.uniform(-1, 1, size=(300, block)), self.random.uniform(0, 1, size=(100, block)),
                  self.random.standard_cauchy(size=(300, block)), self.random.normal(size=(50, block)) * 1e-6,
                  np.round(self.random.normal(size=(300, block)) * 4) / 4,  # ties, and several largest ones
                  np.zeros((1, block)), np.full((1, block), 3.5), np.full((1, block), -1.0)]
        return np.concatenate(shapes).astype(np.float32)

    def test_every_bit_pattern_is_read_as_the_package_reads_it(self):
        for kind in (*BLOCKS, "f16", "bf16"):
            number = gguf.GGMLQuantizationType[kind.upper()]
            size = gguf.GGML_QUANT_SIZES[number][1]
            raw = self.random.integers(0, 256, size=(3000, size), dtype=np.uint8)
            with np.errstate(all="ignore"):
                expected = gguf.quants.dequantize(raw, number).astype(np.float32).ravel()
            found = self.convert("dequantize", kind, raw)
            same = (found.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(found) & np.isnan(expected))
            self.assertEqual(found.size, expected.size, kind)
            self.assertEqual(int(np.sum(~same)), 0, kind)

    def test_numbers_are_stored_as_the_package_stores_them(self):
        compared = 0
        for kind in (*BLOCKS, "f16", "bf16"):
            number = gguf.GGMLQuantizationType[kind.upper()]
            block, size = gguf.GGML_QUANT_SIZES[number]
            values = self.numbers(block)
            try:
                with np.errstate(over="ignore"):
                    expected = gguf.quants.quantize(values, number).view(np.uint8).reshape(-1, size)
            except NotImplementedError:
                continue  # the package only reads them
            found = self.convert("quantize", kind, values).reshape(-1, size)
            wrong = np.flatnonzero((found != expected).any(axis=1))
            self.assertEqual(wrong.size, 0, f"{kind}: blocks {wrong[:5]}")
            compared += 1
        self.assertGreaterEqual(compared, 7)

    def test_the_package_reads_our_searched_scales_to_within_half_a_step(self):
        for kind, worst in (("q4_k", 0.09), ("q5_k", 0.045), ("q6_k", 0.022)):
            number = gguf.GGMLQuantizationType[kind.upper()]
            values = self.random.normal(size=(500, 256)).astype(np.float32)
            blocks = self.convert("quantize", kind, values).reshape(500, -1)
            error = gguf.quants.dequantize(blocks, number) - values
            self.assertLess(float(np.sqrt(np.mean(error**2))), worst, kind)


class Files(Case):
    def write(self, path, **options):
        """A file with a value of every kind and tensors of every type that the package stores."""
        kinds = gguf.GGUFValueType
        writer = gguf.GGUFWriter(path, "llama", **options)
        values = [("u8", kinds.UINT8, 200), ("i8", kinds.INT8, -100), ("u16", kinds.UINT16, 60000),
                  ("i16", kinds.INT16, -30000), ("u32", kinds.UINT32, 4000000000), ("i32", kinds.INT32, -2000000000),
                  ("u64", kinds.UINT64, 2**63 + 5), ("i64", kinds.INT64, -(2**62)), ("f32", kinds.FLOAT32, 0.125),
                  ("f64", kinds.FLOAT64, 0.1), ("yes", kinds.BOOL, True), ("no", kinds.BOOL, False),
                  ("text", kinds.STRING, "Größe 模型"), ("empty", kinds.STRING, "")]
        for key, kind, value in values:
            writer.add_key_value("test." + key, value, kind)
        writer.add_array("test.texts", ["a", "", "ü"])
        writer.add_array("test.numbers", [1, -2, 3])
        writer.add_array("test.floats", [0.5, -0.25])
        writer.add_array("test.flags", [True, False])
        tensors = {"norm.weight": (self.random.normal(size=(7,)).astype(np.float32), None),
                   "half.weight": (self.random.normal(size=(3, 5)).astype(np.float16), None),
                   "table.weight": (self.random.integers(-9, 9, size=(2, 3, 4), dtype=np.int32), None)}
        for kind in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"):
            number = gguf.GGMLQuantizationType[kind]
            data = gguf.quants.quantize(self.random.normal(size=(2, 3, 64)).astype(np.float32), number)
            tensors[f"{kind}.weight"] = (data, number)
        for kind in ("Q4_K", "Q5_K", "Q6_K"):
            number = gguf.GGMLQuantizationType[kind]
            size = gguf.GGML_QUANT_SIZES[number][1]
            tensors[f"{kind}.weight"] = (self.random.integers(0, 256, size=(3, 2 * size), dtype=np.uint8), number)
        for name, (data, number) in tensors.items():
            writer.add_tensor(name, data, raw_dtype=number)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return {"test." + key: value for key, _, value in values}, tensors

    def test_files_of_the_package_are_read(self):
        path = self.folder / "theirs.gguf"
        values, tensors = self.write(path)
        found = json.loads(tool("list", path))
        metadata = {key: value for key, _, value in found["metadata"]}
        kinds = {key: kind for key, kind, _ in found["metadata"]}
        for key, value in values.items():
            self.assertEqual(metadata[key], value, key)
        self.assertEqual(metadata["general.architecture"], "llama")
        self.assertEqual(metadata["test.texts"], ["a", "", "ü"])
        self.assertEqual(metadata["test.numbers"], [1, -2, 3])
        self.assertEqual(metadata["test.flags"], [True, False])
        self.assertEqual((kinds["test.u8"], kinds["test.i64"], kinds["test.yes"]), ("u8", "i64", "boolean"))
        self.assertEqual([name for name, *_ in found["tensors"]], list(tensors))
        for name, kind, shape, size, total in found["tensors"]:
            data, number = tensors[name]
            raw = data.tobytes()
            expected = 0
            for byte in raw:
                expected = (expected * 31 + byte) % 2**64
            self.assertEqual((size, total), (len(raw), expected), name)
            logical = data.shape if number is None else gguf.quants.quant_shape_from_byte_shape(data.shape, number)
            self.assertEqual(tuple(shape), tuple(logical), name)

    def test_files_that_we_write_are_read_by_the_package_and_are_the_same_bytes(self):
        for options in ({}, {"alignment": 256}):
            path, again = self.folder / "theirs.gguf", self.folder / "ours.gguf"
            if options:
                writer = gguf.GGUFWriter(path, "llama")
                writer.add_custom_alignment(options["alignment"])
                for name in ("a", "b"):
                    writer.add_tensor(name, self.random.normal(size=(3, 5)).astype(np.float32))
                writer.write_header_to_file()
                writer.write_kv_data_to_file()
                writer.write_tensors_to_file()
                writer.close()
            else:
                self.write(path)
            tool("rewrite", path, again)
            self.assertEqual(again.read_bytes(), path.read_bytes())
            ours, theirs = gguf.GGUFReader(again), gguf.GGUFReader(path)
            self.assertEqual(list(ours.fields), list(theirs.fields))
            for a, b in zip(ours.tensors, theirs.tensors):
                self.assertEqual((a.name, a.tensor_type, list(a.shape)), (b.name, b.tensor_type, list(b.shape)))
                self.assertEqual(a.data.tobytes(), b.data.tobytes())

    def test_split_files_are_joined(self):
        path = self.folder / "model.gguf"
        _, tensors = self.write(path, split_max_tensors=3)
        parts = sorted(self.folder.glob("model-*.gguf"))
        self.assertEqual(len(parts), 4)
        whole = self.folder / "whole.gguf"
        tool("rewrite", parts[0], whole)
        self.assertEqual([tensor.name for tensor in gguf.GGUFReader(whole).tensors], list(tensors))

    def test_big_endian_files_are_refused_by_name(self):
        path = self.folder / "big.gguf"
        self.write(path, endianess=gguf.GGUFEndian.BIG)
        with self.assertRaises(subprocess.CalledProcessError) as caught:
            tool("list", path)
        self.assertIn("big-endian", caught.exception.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--venv")
    known, rest = parser.parse_known_args()
    TOOL = known.tool
    use_python_with(["gguf"], known.venv, "`make venv`")
    import gguf
    import numpy as np

    unittest.main(argv=[sys.argv[0], *rest])
