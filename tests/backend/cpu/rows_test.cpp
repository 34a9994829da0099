#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "tests/oracle/array.h"
#include "tests/oracle/store.h"

namespace moe {
namespace {

using oracle::Store;

/// The bytes of every view after a run on copies of the operation's views.
template <class Op>
std::vector<std::vector<uint8_t>> bits_after(Backend& backend, Op op) {
  Store store(0);
  for_each_view(op, [&](const Field<Op>& field, const View& view) { op.*field.view = store.copy(view); });
  backend.run(op);
  std::vector<std::vector<uint8_t>> result;
  for_each_view(op, [&](const Field<Op>&, const View& view) {
    const auto* bytes = static_cast<const uint8_t*>(view.data);
    result.emplace_back(bytes, bytes + view.bytes());
  });
  return result;
}

template <class Op>
void expect_same_bits_for_any_threads(const Op& op) {
  ThreadPool one(1);
  ThreadPool three(3);
  const auto backend_1 = make_cpu_backend(one);
  const auto backend_3 = make_cpu_backend(three);
  const auto expected = bits_after(*backend_1, op);
  for (int repeat = 0; repeat < 3; ++repeat) EXPECT_EQ(bits_after(*backend_3, op), expected) << Op::name;
}

/// The operation on rows [begin, begin + count) of the views that have `rows` of them.
template <class Op>
Op slice(Op op, int64_t rows, int64_t begin, int64_t count) {
  for_each_view(op, [&](const Field<Op>& field, const View& view) {
    if (view.size(0) == rows) op.*field.view = view.rows(begin, count);
  });
  return op;
}

template <class Op>
void expect_rows_to_stand_alone(const Op& op, int64_t rows) {
  ThreadPool pool(2);
  const auto backend = make_cpu_backend(pool);
  for (const int64_t begin : {int64_t{0}, rows / 2, rows - 1}) {
    for (const int64_t count : {1, 3}) {
      if (begin + count > rows) continue;
      const auto alone = bits_after(*backend, slice(op, rows, begin, count));
      const auto all = bits_after(*backend, op);
      size_t index = 0;
      for_each_view(op, [&](const Field<Op>& field, const View& view) {
        if (view.size(0) == rows && field.role != Role::in) {
          const size_t row = view.bytes() / static_cast<size_t>(rows);
          const auto first = all[index].begin() + static_cast<int64_t>(row) * begin;
          EXPECT_TRUE(std::equal(alone[index].begin(), alone[index].end(), first)) << Op::name << ": " << field.name;
        }
        ++index;
      });
    }
  }
}

constexpr int64_t kRows = 611;

struct Cases {
  Store s{7};
  template <class Visit>
  void each_row_operation(DType type, Visit visit) {
    const int64_t width = 333;
    visit(RmsNorm{.x = s.normal(type, {kRows, width}),
                  .residual = s.normal(type, {kRows, width}),
                  .sum = s.poison(type, {kRows, width}),
                  .gain = s.normal(type, {width}),
                  .eps = 1e-6f,
                  .y = s.poison(type, {kRows, width}),
                  .inv_rms = s.poison(DType::f32, {kRows})});
    visit(SwiGlu{.gate_up = s.normal(type, {kRows, 2 * width}, 4), .y = s.poison(type, {kRows, width})});
    visit(SwiGluBackward{.gate_up = s.normal(type, {kRows, 2 * width}, 4),
                         .dy = s.normal(type, {kRows, width}),
                         .d_gate_up = s.poison(type, {kRows, 2 * width}),
                         .y = s.poison(type, {kRows, width})});
    visit(Rope{.x = s.normal(type, {kRows, 3 * 22}), .table = s.normal(DType::f32, {kRows, 22})});
    visit(Add{.x = s.normal(type, {kRows, width}), .y = s.normal(type, {kRows, width})});
    visit(CrossEntropy{.logits = s.normal(type, {kRows, 3001}, 5),
                       .targets = s.random_indices({kRows}, -1, 3001),
                       .gradient_scale = s.constant(DType::f32, {1}, 0.25),
                       .d_logits = s.poison(type, {kRows, 3001}),
                       .row_loss = s.poison(DType::f32, {kRows})});
    visit(RouterScores{.x = s.normal(type, {kRows, width}),
                       .weight = s.normal(DType::f32, {63, width}, 0.1),
                       .scores = s.poison(DType::f32, {kRows, 63})});
    visit(RouterTopk{.scores = s.normal(DType::f32, {kRows, 63}),
                     .group = s.random_indices({kRows}, -1, 2),
                     .ids = s.poison(DType::i32, {kRows, 7})});
    visit(RouterGates{.scores = s.normal(DType::f32, {kRows, 63}),
                      .ids = s.random_indices({kRows, 7}, -1, 63),
                      .form = GateForm::softmax,
                      .gates = s.poison(DType::f32, {kRows, 7})});
    visit(RowsCombine{.rows = s.normal(type, {90, width}),
                      .slot_row = s.random_indices({kRows, 4}, -1, 90),
                      .residual = s.normal(type, {kRows, width}),
                      .y = s.normal(type, {kRows, width}),
                      .accumulate = true});
    std::vector<int64_t> rows(4 * kRows);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int64_t>(i * 7 % rows.size());
    visit(RowsGather{.x = s.normal(type, {kRows, width}),
                     .slot_row = s.indices({kRows, 4}, rows),
                     .rows = s.poison(type, {4 * kRows, width})});
  }
};

TEST(CpuRows, ThreadsDoNotChangeTheBits) {
  for (const DType type : {DType::f32, DType::bf16}) {
    Cases cases;
    cases.each_row_operation(type, [](const auto& op) { expect_same_bits_for_any_threads(op); });
    Store s(3);
    expect_same_bits_for_any_threads(RmsNormBackward{.dy = s.normal(type, {kRows, 130}),
                                                     .x = s.normal(type, {kRows, 130}),
                                                     .gain = s.normal(type, {130}),
                                                     .inv_rms = s.normal(DType::f32, {kRows}),
                                                     .dx = s.normal(type, {kRows, 130}),
                                                     .dgain = s.normal(DType::f32, {130})});
    expect_same_bits_for_any_threads(EmbedBackward{.tokens = s.random_indices({kRows}, 0, 20),
                                                   .dy = s.normal(type, {kRows, 200}),
                                                   .d_table = s.normal(DType::f32, {20, 200})});
  }
  Store s(4);
  expect_same_bits_for_any_threads(BalanceLoss{.scores = s.normal(DType::f32, {kRows, 64}),
                                               .group = s.random_indices({kRows}, -1, 3),
                                               .coefficients = s.normal(DType::f32, {3, 64}),
                                               .loss = s.normal(DType::f32, {1})});
  const Shape large{311, 411};
  expect_same_bits_for_any_threads(SumSquares{.x = s.normal(DType::f32, large), .sum = s.normal(DType::f64, {1})});
  expect_same_bits_for_any_threads(AdamW{.param = s.normal(DType::bf16, large),
                                         .master = s.normal(DType::f32, large),
                                         .gradient = s.normal(DType::f32, large),
                                         .exp_avg = s.normal(DType::f32, large),
                                         .exp_avg_sq = s.constant(DType::f32, large, 2),
                                         .gradient_scale = s.normal(DType::f32, {1}),
                                         .learning_rate = 1e-2f,
                                         .beta1 = 0.9f,
                                         .beta2 = 0.95f,
                                         .eps = 1e-8f,
                                         .weight_decay = 0.1f,
                                         .step = 3});
}

TEST(CpuRows, ARowDoesNotDependOnTheOthers) {
  for (const DType type : {DType::f32, DType::bf16}) {
    Cases cases;
    cases.each_row_operation(type, [](const auto& op) { expect_rows_to_stand_alone(op, kRows); });
  }
}

TEST(CpuRows, RepeatedTokensAddUpInTheirOrder) {
  Store s(5);
  const int64_t rows = 400;
  EmbedBackward op{.tokens = s.random_indices({rows}, 0, 3),
                   .dy = s.normal(DType::f32, {rows, 70}),
                   .d_table = s.normal(DType::f32, {3, 70})};
  const View table = s.copy(op.d_table);
  auto* expected = table.as<float>();
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t d = 0; d < 70; ++d) {
      expected[op.tokens.as<int32_t>()[t] * 70 + d] += op.dy.as<float>()[t * 70 + d];
    }
  }
  ThreadPool pool(2);
  make_cpu_backend(pool)->run(op);
  EXPECT_EQ(oracle::read(op.d_table).values(), oracle::read(table).values());
}

/// Scores and choice on the CPU in the order that the router runs them.
std::vector<int32_t> choose(const View& x, const View& weight, int64_t top_k) {
  Store s(1);
  ThreadPool pool(2);
  const auto backend = make_cpu_backend(pool);
  const int64_t rows = x.size(0);
  const View scores = s.poison(DType::f32, {rows, weight.size(0)});
  const View ids = s.poison(DType::i32, {rows, top_k});
  backend->run(RouterScores{.x = x, .weight = weight, .scores = scores});
  backend->run(RouterTopk{.scores = scores, .group = s.constant(DType::i32, {rows}, 0), .ids = ids});
  return {ids.as<int32_t>(), ids.as<int32_t>() + ids.elements()};
}

TEST(CpuRouter, ChoosesAsExactArithmeticWhereverLogitsDifferByMoreThanAMillionth) {
  constexpr int64_t kTokens = 500, kExperts = 64, kWidth = 1536, kTopK = 6;
  for (const DType type : {DType::f32, DType::bf16}) {
    Store s(11);
    const View x = s.normal(type, {kTokens, kWidth});
    const View weight = s.normal(DType::f32, {kExperts, kWidth}, 0.02);
    auto* w = weight.as<float>();  // the upper half of the experts: near copies of the lower half
    for (int64_t i = 0; i < kExperts / 2 * kWidth; ++i) {
      const double factor = 1 + 1e-5 * static_cast<double>(i % 7 - 3);
      w[kExperts / 2 * kWidth + i] = static_cast<float>(static_cast<double>(w[i]) * factor);
    }
    const std::vector<int32_t> ids = choose(x, weight, kTopK);
    const oracle::Reals xs = oracle::read(x), ws = oracle::read(weight);
    int near = 0;
    for (int64_t t = 0; t < kTokens; ++t) {
      std::vector<double> logits(kExperts);
      for (int64_t e = 0; e < kExperts; ++e) {
        for (int64_t d = 0; d < kWidth; ++d) logits[static_cast<size_t>(e)] += xs(t, d) * ws(e, d);
      }
      std::vector<int32_t> order(kExperts);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
      });
      for (size_t k = 0; k < kTopK; ++k) {
        const auto gap = [&](size_t i) {
          return logits[static_cast<size_t>(order[i])] - logits[static_cast<size_t>(order[i + 1])];
        };
        const double closest = std::min(k == 0 ? 1.0 : gap(k - 1), gap(k));
        near += closest < 1e-4;
        if (closest <= 1e-6) continue;
        EXPECT_EQ(ids[static_cast<size_t>(t) * kTopK + k], order[k]) << "token " << t;
      }
    }
    EXPECT_GT(near, kTokens) << "the near ties that this test is about";
  }
}

TEST(CpuRouter, EqualScoresGoToTheLowestExperts) {
  Store s(1);
  const View x = s.normal(DType::f32, {5, 24});
  EXPECT_EQ(choose(x, s.constant(DType::f32, {9, 24}, 0.5), 3),
            (std::vector<int32_t>{0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2}));
}

TEST(CpuRouter, ExcludedExpertsAreStillChosenOnceEach) {
  Store s(1);
  const double none = -INFINITY;
  const View ids = s.poison(DType::i32, {2, 4});
  const RouterTopk op{.scores = s.reals(DType::f32, {2, 4}, {none, none, none, none, none, 0.5, none, 0.25}),
                      .group = s.constant(DType::i32, {2}, 0),
                      .ids = ids};
  ThreadPool pool(1);
  make_cpu_backend(pool)->run(op);
  EXPECT_EQ(oracle::read_indices(ids).values(), (std::vector<int64_t>{0, 1, 2, 3, 1, 3, 0, 2}));
}

TEST(CpuCrossEntropy, HoldsForALargeVocabularyAndExtremeLogits) {
  constexpr int64_t kVocabulary = 102400;
  for (const DType type : {DType::f32, DType::bf16}) {
    Store s(2);
    const View logits = s.normal(type, {3, kVocabulary}, 8);
    const auto set = [&](int64_t row, int64_t column, double value) {
      oracle::write(logits.rows(row, 1).columns(column, 1), oracle::Reals({1, 1}, value));
    };
    set(1, 102399, 30000);
    set(2, 0, -30000);
    const oracle::Reals before = oracle::read(logits);
    const std::vector<int64_t> targets{5, 77, 0};
    const View row_loss = s.poison(DType::f32, {3});
    ThreadPool pool(2);
    make_cpu_backend(pool)->run(CrossEntropy{.logits = logits,
                                             .targets = s.indices({3}, targets),
                                             .gradient_scale = s.constant(DType::f32, {1}, 1),
                                             .d_logits = logits,
                                             .row_loss = row_loss});
    const oracle::Reals gradient = oracle::read(logits);
    for (int64_t t = 0; t < 3; ++t) {
      double largest = -INFINITY, sum = 0, total = 0;
      for (int64_t v = 0; v < kVocabulary; ++v) largest = std::max(largest, before(t, v));
      for (int64_t v = 0; v < kVocabulary; ++v) sum += std::exp(before(t, v) - largest);
      const double loss = std::log(sum) + largest - before(t, targets[static_cast<size_t>(t)]);
      EXPECT_NEAR(oracle::read(row_loss)(t), loss, 1e-6 * (1 + loss));
      for (int64_t v = 0; v < kVocabulary; ++v) total += gradient(t, v);
      EXPECT_NEAR(total, 0, type == DType::f32 ? 1e-5 : 1e-2);
    }
  }
}

TEST(CpuCrossEntropy, ANotANumberReachesTheLoss) {
  Store s(2);
  const View logits = s.constant(DType::f32, {1, 3000}, 1);
  logits.as<float>()[2222] = NAN;
  const View row_loss = s.poison(DType::f32, {1});
  ThreadPool pool(1);
  make_cpu_backend(pool)->run(
      CrossEntropy{.logits = logits, .targets = s.constant(DType::i32, {1}, 4), .row_loss = row_loss});
  EXPECT_TRUE(std::isnan(row_loss.as<float>()[0]));
}

}  // namespace
}  // namespace moe
