"""tools/check_layers.py finds each kind of mistake, at its line, and nothing in a tree without one."""

import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))
import check_layers  # noqa: E402

TABLE = """
base        0 nothing
ops         2 base
backend/cpu 3 0-2
model       5 0-2
train       9 below
cli         11 everything
tests       12 everything
bench       12 everything
"""


class CheckLayers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.write("docs/layers.txt", TABLE)
        self.write("src/base/error.h", "#include <string>\n")
        self.write("src/ops/op.h", '#include "base/error.h"\n')
        self.write("src/backend/cpu/gemm.h", '#include "ops/op.h"\n')
        self.write("src/backend/cpu/kernels/tile.h", '#include "backend/cpu/gemm.h"\n')
        self.write("src/model/model.h", '#include "ops/op.h"\n')
        self.write("src/train/loop.h", '#include "model/model.h"\n')
        self.write("src/cli/main.cpp", '#include "backend/cpu/gemm.h"\n#include "train/loop.h"\n')
        self.write("tests/oracle/oracle.h", '#include "backend/cpu/gemm.h"\n#include "tests/oracle/naive.h"\n')
        self.write("tests/oracle/naive.h", "")

    def write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def assert_only_mistake(self, *parts):
        mistakes, _ = check_layers.check(self.root)
        self.assertEqual(len(mistakes), 1, mistakes)
        for part in parts:
            self.assertIn(part, mistakes[0])

    def test_a_tree_that_keeps_to_its_table_has_no_mistakes(self):
        self.assertEqual(check_layers.check(self.root), ([], 9))

    def test_an_include_of_a_higher_layer_is_found_at_its_line(self):
        self.write("src/base/log.h", '#include "base/error.h"\n\n#  include "ops/op.h"\n')
        self.assert_only_mistake("src/base/log.h:3:", "base (layer 0) may not include ops (layer 2)")

    def test_only_cli_tests_and_bench_may_include_a_backend(self):
        self.write("bench/gemm.cpp", '#include "backend/cpu/gemm.h"\n')
        self.write("src/train/step.cpp", '#include "backend/cpu/kernels/tile.h"\n')
        self.assert_only_mistake("src/train/step.cpp:1:", "may not include backend/cpu")

    def test_a_lower_layer_that_the_table_does_not_name_is_refused(self):
        self.write("docs/layers.txt", TABLE.replace("model       5 0-2", "model       5 base"))
        self.assert_only_mistake("src/model/model.h:1:", "model (layer 5) may not include ops (layer 2)")

    def test_a_relative_path_does_not_hide_a_forbidden_include(self):
        self.write("src/base/log.h", '#include "../ops/op.h"\n')
        self.assert_only_mistake("src/base/log.h:1:", "may not include ops")

    def test_src_may_not_include_tests(self):
        self.write("src/model/probe.h", '#include "tests/oracle/naive.h"\n')
        self.assert_only_mistake("src/model/probe.h:1:", "may not include tests")

    def test_a_folder_without_a_line_is_found(self):
        self.write("src/extra/thing.h", "\n")
        self.assert_only_mistake("src/extra/thing.h:1:", "no line in docs/layers.txt")

    def test_a_quoted_library_header_is_found(self):
        self.write("src/base/log.h", '#include "fmt/format.h"\n')
        self.assert_only_mistake("src/base/log.h:1:", '"fmt/format.h"')

    def test_a_product_in_nn_outside_the_linear_map_is_found(self):
        self.write("docs/layers.txt", TABLE + "nn 4 0-2\n")
        self.write("src/nn/linear.cpp", "run(Gemm{.a = x});\nrun(GroupedGemmReduce{.a = x});\n")
        self.write("src/nn/head.cpp", "\nrun(ExpertRows<SwiGlu>{.first = op});\n  run(GroupedGemm{.a = x});\n")
        self.assert_only_mistake("src/nn/head.cpp:3:", "GroupedGemm in nn/", "nn/linear.h")

    def test_a_question_for_a_routing_method_outside_the_routers_is_found(self):
        self.write("docs/layers.txt", TABLE + "nn 4 0-2\n")
        self.write("src/nn/routers/row.cpp", "case RoutingMethod::hash:\n")
        self.write("src/model/model.h", "x.routing = RoutingMethod::hash;\nif (x.routing == RoutingMethod::hash) {}\n")
        self.assert_only_mistake("src/model/model.h:2:", "asks for a routing method", "registry.h")

    def test_a_folder_that_is_reached_through_an_allowed_one_is_found(self):
        self.write("docs/layers.txt", TABLE.replace("train       9 below", "train       9 model base"))
        self.assert_only_mistake("src/train/loop.h:1:", "train (layer 9) may not include ops (layer 2)",
                                 "through model/model.h, ops/op.h")

    def test_the_way_to_a_reached_folder_may_be_long(self):
        self.write("docs/layers.txt", TABLE.replace("train       9 below", "train       9 model ops"))
        self.write("src/ops/op.h", '#include "ops/view.h"\n')
        self.write("src/ops/view.h", '#include "base/error.h"\n')
        self.assert_only_mistake("src/train/loop.h:1:", "may not include base", "model/model.h, ops/op.h, ops/view.h, base/")

    def test_rooms_that_include_each_other_are_found(self):
        self.write("src/ops/check.h", '#include "ops/op.h"\n')
        self.write("src/ops/list.h", '#include "ops/check.h"\n')
        self.write("src/ops/op.cpp", '#include "ops/list.h"\n#include "ops/op.h"\n')
        self.assert_only_mistake("ops/check:", "in a circle: ops/check, ops/list, ops/op")

    def test_a_header_and_its_source_are_one_room(self):
        self.write("src/ops/op.cpp", '#include "ops/op.h"\n')
        self.write("src/ops/list.h", '#include "ops/op.h"\n')
        self.write("src/ops/list.cpp", '#include "ops/list.h"\n#include "ops/op.h"\n')
        self.assertEqual(check_layers.check(self.root)[0], [])

    def test_a_table_that_allows_a_higher_layer_is_itself_a_mistake(self):
        self.write("docs/layers.txt", TABLE.replace("ops         2 base", "ops         2 base model"))
        self.assert_only_mistake("docs/layers.txt:3:", "model, which is not of a lower layer")


if __name__ == "__main__":
    unittest.main()
