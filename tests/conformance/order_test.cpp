/// Orders and roundings that the contract fixes: a row's bits depend neither on its neighbours nor on the way it is
/// reached.

#include <cmath>

#include "tests/conformance/on_every_target.h"

namespace moe::conformance {
namespace {

using oracle::read;
using oracle::read_indices;

/// Bits of rows, as numbers.
std::vector<double> rows_of(const View& view, int64_t begin, int64_t count) {
  return read(view.rows(begin, count)).values();
}

TEST(Order, AProductsRowsDoNotDependOnHowManyThereAre) {
  constexpr int64_t rows = 133, depth = 301, columns = 70;
  on_every_target(Where::batch_invariant, [&](const Runner& run) {
    for (const DType type : {f32, bf16_type}) {
      for (const bool transpose_b : {false, true}) {
        Store s(1);
        const View a = s.normal(type, {rows, depth});
        const View b = s.normal(type, transpose_b ? Shape{columns, depth} : Shape{depth, columns});
        const View whole = s.poison(f32, {rows, columns});
        run(Gemm{.a = a, .b = b, .c = whole, .transpose_b = transpose_b});
        for (const int64_t count : {1, 2, 3, 5, 8, 31, 64}) {
          const View part = s.poison(f32, {count, columns});
          run(Gemm{.a = a.rows(57, count), .b = b, .c = part, .transpose_b = transpose_b});
          EXPECT_EQ(read(part).values(), rows_of(whole, 57, count)) << count << " rows of " << name(type);
        }
      }
    }
  });
}

TEST(Order, AnExpertsRowsDoNotDependOnItsOtherRows) {
  constexpr int64_t rows = 90, depth = 77, columns = 45;
  on_every_target(Where::batch_invariant, [&](const Runner& run) {
    for (const DType type : {f32, bf16_type}) {
      for (const bool transpose_b : {false, true}) {
        Store s(2);
        const View a = s.normal(type, {rows, depth}), whole = s.poison(f32, {rows, columns});
        const View b = s.normal(type, transpose_b ? Shape{2, columns, depth} : Shape{2, depth, columns});
        run(GroupedGemm{
            .a = a, .offsets = s.indices({3}, {0, 50, rows}), .b = b, .c = whole, .transpose_b = transpose_b});
        for (const int64_t count :
             {1, 7, 40}) {  // the second expert's first rows, gathered, after one row of the first
          std::vector<int64_t> picked = {0};
          for (int64_t i = 0; i < count; ++i) picked.push_back(50 + i);
          const View part = s.poison(f32, {count + 1, columns});
          run(GroupedGemm{.a = a,
                          .a_rows = s.indices({count + 1}, picked),
                          .offsets = s.indices({3}, {0, 1, count + 1}),
                          .b = b,
                          .c = part,
                          .transpose_b = transpose_b});
          EXPECT_EQ(rows_of(part, 0, 1), rows_of(whole, 0, 1));
          EXPECT_EQ(rows_of(part, 1, count), rows_of(whole, 50, count)) << count << " rows of " << name(type);
        }
      }
    }
  });
}

TEST(Order, EachRowOfRowOperationsIsAlone) {
  constexpr int64_t rows = 37, width = 53;
  on_every_target(Where::batch_invariant, [&](const Runner& run) {
    Store s(3);
    const View x = s.normal(bf16_type, {rows, width}), gain = s.normal(f32, {width}),
               weight = s.normal(f32, {9, width});
    const View targets = s.random_indices({rows}, 0, width);
    const View y = s.poison(bf16_type, {rows, width}), inv = s.poison(f32, {rows}), scores = s.poison(f32, {rows, 9});
    const View loss = s.poison(f32, {rows});
    run(RmsNorm{.x = x, .gain = gain, .eps = 1e-6f, .y = y, .inv_rms = inv});
    run(RouterScores{.x = x, .weight = weight, .scores = scores});
    run(CrossEntropy{.logits = x, .targets = targets, .row_loss = loss});
    for (const int64_t row : {0, 20, 36}) {
      const View y1 = s.poison(bf16_type, {1, width}), inv1 = s.poison(f32, {1}), scores1 = s.poison(f32, {1, 9});
      const View loss1 = s.poison(f32, {1}), x1 = x.rows(row, 1);
      run(RmsNorm{.x = x1, .gain = gain, .eps = 1e-6f, .y = y1, .inv_rms = inv1});
      run(RouterScores{.x = x1, .weight = weight, .scores = scores1});
      run(CrossEntropy{.logits = x1, .targets = targets.rows(row, 1), .row_loss = loss1});
      EXPECT_EQ(read(y1).values(), rows_of(y, row, 1));
      EXPECT_EQ(read(inv1)(0), read(inv)(row));
      EXPECT_EQ(read(scores1).values(), rows_of(scores, row, 1));
      EXPECT_EQ(read(loss1)(0), read(loss)(row));
    }
  });
}

/// A document inside a pack, and the same keys and values in a cache.
class TwoWaysOfAttention : public testing::TestWithParam<DType> {
 protected:
  static constexpr int64_t kBefore = 37, kLength = 150, kHeads = 4, kKvHeads = 2, kSize = 24;
  static constexpr float kScale = 0.2f;
  Store s{4};
  DType type = GetParam();
  View q = s.normal(type, {kBefore + kLength, kHeads* kSize});
  View k = s.normal(type, {kBefore + kLength, kKvHeads* kSize});
  View v = s.normal(type, {kBefore + kLength, kKvHeads* kSize});

  View attend(const Runner& run, int64_t first, int64_t count, std::vector<int64_t> start, int64_t max_segment) {
    const View out = s.poison(type, {count, kHeads * kSize});
    run(Attention{.q = q.rows(first, count),
                  .k = k.rows(first, count),
                  .v = v.rows(first, count),
                  .segment_start = s.indices({count}, start),
                  .heads = kHeads,
                  .kv_heads = kKvHeads,
                  .scale = kScale,
                  .max_segment = max_segment,
                  .out = out,
                  .lse = s.poison(f32, {count, kHeads})});
    return out;
  }
};

TEST_P(TwoWaysOfAttention, APackedDocumentGivesTheBitsOfTheDocumentAlone) {
  on_every_target(Where::batch_invariant, [&](const Runner& run) {
    std::vector<int64_t> start(kBefore, 0);
    start.resize(kBefore + kLength, kBefore);
    const View packed = attend(run, 0, kBefore + kLength, start, kBefore + kLength);
    const View alone = attend(run, kBefore, kLength, std::vector<int64_t>(kLength, 0), kLength);
    EXPECT_EQ(read(alone).values(), rows_of(packed, kBefore, kLength));
  });
}

TEST_P(TwoWaysOfAttention, PrefillInAnyChunksAndDecodingGiveTheBitsOfTraining) {
  on_every_target(Where::batch_invariant, [&](const Runner& run) {
    const View whole = attend(run, kBefore, kLength, std::vector<int64_t>(kLength, 0), kLength);
    for (const int64_t chunk : {int64_t{1}, int64_t{7}, int64_t{64}, kLength}) {
      // The pages of the sequence, which is the second one of two, are in reverse order.
      const int64_t page_tokens = chunk == 1 ? 7 : chunk == 7 ? 64 : chunk == 64 ? 1 : kLength;
      const int64_t page_count = (kLength + page_tokens - 1) / page_tokens;
      std::vector<int64_t> page_table(static_cast<size_t>(page_count), -1);
      for (int64_t page = page_count; page-- > 0;) page_table.push_back(page + 1);
      const View pages = s.indices({2, page_count}, page_table);
      const View k_cache = s.poison(type, {page_count + 1, page_tokens, kKvHeads * kSize});
      const View v_cache = s.poison(type, {page_count + 1, page_tokens, kKvHeads * kSize});
      for (int64_t begin = 0; begin < kLength; begin += chunk) {
        const int64_t count = std::min(chunk, kLength - begin);
        std::vector<int64_t> positions;
        for (int64_t i = 0; i < count; ++i) positions.push_back(begin + i);
        const View sequence = s.constant(i32, {count}, 1), position = s.indices({count}, positions);
        const View out = s.poison(type, {count, kHeads * kSize});
        run(KvAppend{.k = k.rows(kBefore + begin, count),
                     .v = v.rows(kBefore + begin, count),
                     .sequence = sequence,
                     .positions = position,
                     .pages = pages,
                     .k_cache = k_cache,
                     .v_cache = v_cache});
        run(CachedAttention{.q = q.rows(kBefore + begin, count),
                            .k_cache = k_cache,
                            .v_cache = v_cache,
                            .sequence = sequence,
                            .positions = position,
                            .pages = pages,
                            .heads = kHeads,
                            .kv_heads = kKvHeads,
                            .scale = kScale,
                            .out = out});
        ASSERT_EQ(read(out).values(), rows_of(whole, begin, count)) << "chunks of " << chunk << ", from " << begin;
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Order, TwoWaysOfAttention, testing::Values(DType::f32, DType::bf16),
                         [](const auto& type) { return std::string(name(type.param)); });

TEST(Rounding, RmsNormRoundsToTheModelsTypeBeforeTheGain) {
  constexpr int64_t rows = 50, width = 64;
  on_every_target([&](const Runner& run) {
    Store s(5);
    const View x = s.normal(bf16_type, {rows, width}), gain = s.normal(bf16_type, {width});
    const View y = s.poison(bf16_type, {rows, width});
    run(RmsNorm{.x = x, .gain = gain, .eps = 1e-6f, .y = y, .inv_rms = s.poison(f32, {rows})});
    int64_t as_released = 0, rounded_once = 0;
    for (int64_t t = 0; t < rows; ++t) {
      double squares = 0;
      for (int64_t d = 0; d < width; ++d) squares += read(x)(t, d) * read(x)(t, d);
      const double inv = 1 / std::sqrt(squares / width + static_cast<double>(1e-6f));
      for (int64_t d = 0; d < width; ++d) {
        const double n = read(x)(t, d) * inv, g = read(gain)(d);
        as_released += read(y)(t, d) == oracle::round_to(bf16_type, g * oracle::round_to(bf16_type, n));
        rounded_once += read(y)(t, d) == oracle::round_to(bf16_type, g * n);
      }
    }
    EXPECT_GE(as_released, rows * width - 5) << "a last bit may fall on the other side of a tie";
    EXPECT_LT(rounded_once, rows * width * 9 / 10);
  });
}

TEST(Rounding, RmsNormsStatisticsAreThoseOfTheSumAsStored) {
  constexpr int64_t rows = 20, width = 5;
  on_every_target([&](const Runner& run) {
    Store s(7);
    const View sum = s.poison(bf16_type, {rows, width}), inv_rms = s.poison(f32, {rows});
    run(RmsNorm{.x = s.normal(bf16_type, {rows, width}),
                .residual = s.normal(bf16_type, {rows, width}),
                .sum = sum,
                .gain = s.normal(f32, {width}),
                .eps = 1e-6f,
                .y = s.poison(bf16_type, {rows, width}),
                .inv_rms = inv_rms});
    for (int64_t t = 0; t < rows; ++t) {
      double squares = 0;
      for (int64_t d = 0; d < width; ++d) squares += read(sum)(t, d) * read(sum)(t, d);
      EXPECT_NEAR(read(inv_rms)(t) * std::sqrt(squares / width + static_cast<double>(1e-6f)), 1, 1e-6);
    }
  });
}

TEST(Rounding, ParametersAreTheRoundedMasterAfterManySteps) {
  constexpr int64_t size = 300;
  on_every_target([&](const Runner& run) {
    for (const bool with_master : {false, true}) {
      Store s(6);
      const View start = s.normal(f32, {size}, 0.1), param = with_master ? s.poison(bf16_type, {size}) : s.copy(start);
      const View master = with_master ? s.copy(start) : View{};
      if (with_master) run(Cast{.x = start, .y = param});
      const View exact = s.reals(f64, {size}, read(start).values());
      const View exp_avg = s.constant(f32, {size}, 0), exp_avg_sq = s.constant(f32, {size}, 0);
      const View exact_avg = s.constant(f64, {size}, 0), exact_avg_sq = s.constant(f64, {size}, 0);
      constexpr int64_t steps = 12;
      for (int64_t step = 1; step <= steps; ++step) {
        const View gradient = s.normal(f32, {size});
        AdamW op{.param = param,
                 .master = master,
                 .gradient = gradient,
                 .exp_avg = exp_avg,
                 .exp_avg_sq = exp_avg_sq,
                 .gradient_scale = s.constant(f32, {1}, 0.5),
                 .learning_rate = 1e-2f,
                 .beta1 = 0.9f,
                 .beta2 = 0.95f,
                 .eps = 1e-8f,
                 .weight_decay = 0.1f,
                 .step = step};
        run(op);
        op.param = exact;
        op.master = {};
        op.gradient = s.reals(f64, {size}, read(gradient).values());
        op.exp_avg = exact_avg;
        op.exp_avg_sq = exact_avg_sq;
        op.gradient_scale = s.constant(f64, {1}, 0.5);
        make_oracle()->run(op);
      }
      for (int64_t i = 0; i < size; ++i) {
        const double found = read(with_master ? master : param)(i);
        // Each step adds a few roundings of the parameter and of an update no larger than three times the rate.
        EXPECT_NEAR(found, read(exact)(i), static_cast<double>(steps) * kU * (8 * std::abs(found) + 32 * 0.03));
        if (with_master) {
          EXPECT_EQ(read(param)(i), oracle::round_to(bf16_type, found));
        }
      }
    }
  });
}

}  // namespace
}  // namespace moe::conformance
