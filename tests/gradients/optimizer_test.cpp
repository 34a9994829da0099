/// The optimiser's arithmetic against what it must give in cases solved by hand.

#include "tests/gradients/differences.h"

namespace moe::oracle {
namespace {

constexpr DType f64 = DType::f64;

TEST(Optimizer, AConstantGradientMovesEachParameterByTheRateAndDecaysIt) {
  const auto oracle = make_oracle();
  Store s(1);
  const View param = s.reals(f64, {3}, {1, -2, 0.5}), gradient = s.reals(f64, {3}, {8, -0.25, 1e-3});
  const View exp_avg = s.constant(f64, {3}, 0), exp_avg_sq = s.constant(f64, {3}, 0);
  Reals expected = read(param);
  const double rate = static_cast<double>(0.125f), decay = static_cast<double>(0.5f), eps = static_cast<double>(1e-8f);
  for (int64_t step = 1; step <= 20; ++step) {
    oracle->run(AdamW{.param = param,
                      .gradient = gradient,
                      .exp_avg = exp_avg,
                      .exp_avg_sq = exp_avg_sq,
                      .gradient_scale = s.reals(f64, {1}, {0.5}),
                      .learning_rate = 0.125f,
                      .beta1 = 0.9f,
                      .beta2 = 0.95f,
                      .eps = 1e-8f,
                      .weight_decay = 0.5f,
                      .step = step});
    for (int64_t i = 0; i < 3; ++i) {
      // The bias corrections make both averages those of the constant itself.
      const double g = 0.5 * read(gradient)(i);
      expected(i) = expected(i) * (1 - rate * decay) - rate * g / (std::abs(g) + eps);
      ASSERT_NEAR(read(param)(i), expected(i), 1e-12) << "step " << step;
    }
  }
}

TEST(Optimizer, TheMasterCopyGathersWhatTheParameterCannotHold) {
  const auto oracle = make_oracle();
  Store s(2);
  const View param = s.constant(DType::bf16, {1}, 1), master = s.constant(DType::f32, {1}, 1);
  const View exp_avg = s.constant(DType::f32, {1}, 0), exp_avg_sq = s.constant(DType::f32, {1}, 0);
  for (int64_t step = 1; step <= 8; ++step) {
    oracle->run(AdamW{.param = param,
                      .master = master,
                      .gradient = s.constant(DType::f32, {1}, 3),
                      .exp_avg = exp_avg,
                      .exp_avg_sq = exp_avg_sq,
                      .gradient_scale = s.constant(DType::f32, {1}, 1),
                      .learning_rate = 1e-3f,
                      .beta1 = 0.9f,
                      .beta2 = 0.95f,
                      .eps = 1e-8f,
                      .weight_decay = 0,
                      .step = step});
    EXPECT_EQ(read(param)(0), round_to(DType::bf16, read(master)(0)));
  }
  EXPECT_NEAR(read(master)(0), 1 - 8e-3, 1e-6);
  EXPECT_EQ(read(param)(0), 0.9921875);
}

TEST(Optimizer, ClippingScalesTheNormToItsLimitAndLeavesASmallerOneAlone) {
  const auto oracle = make_oracle();
  Store s(3);
  const View x = s.reals(f64, {2}, {3, -4}), sum = s.constant(f64, {1}, 0);
  const View norm = s.poison(f64, {1}), scale = s.poison(f64, {1});
  oracle->run(SumSquares{.x = x, .sum = sum});
  oracle->run(ClipScale{.sum_squares = sum, .max_norm = 1, .norm = norm, .scale = scale});
  EXPECT_EQ(read(norm)(0), 5);
  EXPECT_NEAR(read(scale)(0), 0.2, 1e-7);
  oracle->run(ClipScale{.sum_squares = sum, .max_norm = 6, .norm = norm, .scale = scale});
  EXPECT_EQ(read(scale)(0), 1);
  oracle->run(ClipScale{.sum_squares = sum, .max_norm = 0, .norm = norm, .scale = scale});
  EXPECT_EQ(read(scale)(0), 1);
  write(x, Reals({2}, INFINITY));
  oracle->run(SumSquares{.x = x, .sum = sum});
  oracle->run(ClipScale{.sum_squares = sum, .max_norm = 0, .norm = norm, .scale = scale});
  EXPECT_TRUE(std::isinf(read(norm)(0)) && std::isnan(read(scale)(0)));
}

TEST(Rounding, GoesToTheNearestBfloat16OnceAndToEvenOnTies) {
  EXPECT_EQ(round_to(DType::bf16, 1 + 0.0078125 / 2), 1);  // tie, to even
  EXPECT_EQ(round_to(DType::bf16, 1 + 3 * 0.0078125 / 2), 1 + 2 * 0.0078125);
  EXPECT_EQ(round_to(DType::bf16, 1 + 0.0078125 / 2 + 1e-12), 1.0078125);  // f32 first would make it a tie
  EXPECT_EQ(round_to(DType::bf16, -1 - 0.0078125 / 2 - 1e-12), -1.0078125);
  EXPECT_EQ(round_to(DType::f32, 1 + 1e-9), 1);
  EXPECT_EQ(round_to(DType::f64, 1 + 1e-9), 1 + 1e-9);
}

}  // namespace
}  // namespace moe::oracle
