/// Products and row moves are linear: their backward is the adjoint, <y, A x> = <A^T y, x>.

#include "tests/gradients/differences.h"

namespace moe::oracle {
namespace {

constexpr DType f64 = DType::f64;

void expect_equal(double a, double b) {
  EXPECT_NE(a, 0);
  EXPECT_NEAR(a, b, 1e-12 * (std::abs(a) + std::abs(b) + 1));
}

TEST(Gradients, GemmsOfEveryTransposeGiveEachOthersGradients) {
  const auto oracle = make_oracle();
  Store s(1);
  constexpr int64_t m = 3, n = 4, depth = 5;
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      SCOPED_TRACE(fmt::format("transpose_a = {}, transpose_b = {}", transpose_a, transpose_b));
      const View a = s.normal(f64, transpose_a ? Shape{depth, m} : Shape{m, depth});
      const View b = s.normal(f64, transpose_b ? Shape{n, depth} : Shape{depth, n});
      const View c = s.poison(f64, {m, n}), dc = s.normal(f64, {m, n});
      const auto loss = [&] {
        oracle->run(Gemm{.a = a, .b = b, .c = c, .transpose_a = transpose_a, .transpose_b = transpose_b});
        return dot(c, dc);
      };
      const View da = s.poison(f64, a.shape), db = s.poison(f64, b.shape);
      if (transpose_a) {
        oracle->run(Gemm{.a = b, .b = dc, .c = da, .transpose_a = transpose_b, .transpose_b = true});
      } else {
        oracle->run(Gemm{.a = dc, .b = b, .c = da, .transpose_b = !transpose_b});
      }
      if (transpose_b) {
        oracle->run(Gemm{.a = dc, .b = a, .c = db, .transpose_a = true, .transpose_b = transpose_a});
      } else {
        oracle->run(Gemm{.a = a, .b = dc, .c = db, .transpose_a = !transpose_a});
      }
      expect_gradient("da", read(da), a, loss);
      expect_gradient("db", read(db), b, loss);
    }
  }
}

/// A routed layer's moves: 5 tokens, 3 experts of which one has no rows, K = 2, one token of padding.
struct Routed {
  Store s{2};
  std::unique_ptr<Backend> oracle = make_oracle();
  View ids = s.indices({5, 2}, {2, 0, 0, 2, -1, -1, 2, 0, 0, 2});
  View offsets = s.poison(DType::i32, {4}), slot_row = s.poison(DType::i32, {5, 2});
  View row_slot = s.poison(DType::i32, {10}), row_token = s.poison(DType::i32, {10});

  Routed() {
    oracle->run(
        RoutePlan{.ids = ids, .offsets = offsets, .row_slot = row_slot, .row_token = row_token, .slot_row = slot_row});
  }
};

TEST(Gradients, GroupedProductsAndCombinationAreEachOthersAdjoints) {
  for (const bool transpose_b : {false, true}) {
    SCOPED_TRACE(fmt::format("transpose_b = {}", transpose_b));
    Routed r;
    Store& s = r.s;
    const View x = s.normal(f64, {5, 3}), dc = s.normal(f64, {10, 4});
    const View b = s.normal(f64, transpose_b ? Shape{3, 4, 3} : Shape{3, 3, 4}), c = s.constant(f64, {10, 4}, 0);
    r.oracle->run(
        GroupedGemm{.a = x, .a_rows = r.row_token, .offsets = r.offsets, .b = b, .c = c, .transpose_b = transpose_b});
    const double product = dot(c, dc);

    const View d_rows = s.poison(f64, {10, 3}), dx = s.poison(f64, {5, 3}), db = s.poison(f64, b.shape);
    r.oracle->run(GroupedGemm{.a = dc, .offsets = r.offsets, .b = b, .c = d_rows, .transpose_b = !transpose_b});
    r.oracle->run(RowsCombine{.rows = d_rows, .slot_row = r.slot_row, .y = dx});
    expect_equal(dot(dx, x), product);
    if (transpose_b) {
      r.oracle->run(GroupedGemmReduce{.a = dc, .b = x, .b_rows = r.row_token, .offsets = r.offsets, .c = db});
    } else {
      r.oracle->run(GroupedGemmReduce{.a = x, .a_rows = r.row_token, .b = dc, .offsets = r.offsets, .c = db});
    }
    expect_equal(dot(db, b), product);
    for (int64_t i = 0; i < 12; ++i) EXPECT_EQ(read(db.at(1))(i), 0) << "the expert without rows";
  }
}

TEST(Gradients, CombinationAddsTheResidualAndWhatWasThere) {
  Routed r;
  const View rows = r.s.normal(f64, {10, 3}), residual = r.s.normal(f64, {5, 3}), y = r.s.normal(f64, {5, 3});
  const Reals before = read(y), all_rows = read(rows), added = read(residual);
  const Indices row = read_indices(r.slot_row);
  r.oracle->run(RowsCombine{.rows = rows, .slot_row = r.slot_row, .residual = residual, .y = y, .accumulate = true});
  for (int64_t d = 0; d < 3; ++d) {
    EXPECT_EQ(read(y)(2, d), before(2, d) + added(2, d)) << "padding";
    EXPECT_NEAR(read(y)(1, d), before(1, d) + added(1, d) + all_rows(row(1, 0), d) + all_rows(row(1, 1), d), 1e-15);
  }
}

TEST(Gradients, RoutePlanSortsRowsByExpertAndKeepsTokensInOrder) {
  Routed r;
  EXPECT_EQ(read_indices(r.offsets).values(), (std::vector<int64_t>{0, 4, 4, 8}));
  EXPECT_EQ(read_indices(r.row_token).values(), (std::vector<int64_t>{0, 1, 3, 4, 0, 1, 3, 4, 0, 0}));
  EXPECT_EQ(read_indices(r.row_slot).values(), (std::vector<int64_t>{1, 2, 7, 8, 0, 3, 6, 9, -1, -1}));
  EXPECT_EQ(read_indices(r.slot_row).values(), (std::vector<int64_t>{4, 0, 1, 5, -1, -1, 6, 2, 3, 7}));
}

}  // namespace
}  // namespace moe::oracle
