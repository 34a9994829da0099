#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "tests/oracle/array.h"
#include "tests/oracle/store.h"

namespace moe {
namespace {

using oracle::Store;

constexpr int64_t kExperts = 24;
constexpr double kAlpha = 0.03125;

struct Balance {
  Store s{3};
  ThreadPool pool{2};
  std::unique_ptr<Backend> backend = make_cpu_backend(pool);

  /// The loss of tokens that chose `ids` with equal scores, all in group 0 but those of `group` below 0.
  double loss(const View& ids, const View& group, int64_t tokens, int devices) {
    const View counts = s.constant(DType::i32, {1, kExperts}, 0);
    const View coefficients = s.constant(DType::f32, {1, kExperts}, 0);
    const View total = s.constant(DType::f32, {1}, 0);
    backend->run(RouterCounts{.ids = ids, .group = group, .experts = kExperts, .counts = counts});
    backend->run(BalanceCoefficients{.counts = counts,
                                     .group_tokens = s.indices({1}, {tokens}),
                                     .inv_tokens = s.constant(DType::f32, {1}, 1.0 / static_cast<double>(tokens)),
                                     .top_k = static_cast<int>(ids.size(1)),
                                     .alpha = static_cast<float>(kAlpha),
                                     .devices = devices,
                                     .coefficients = coefficients});
    const View scores = s.constant(DType::f32, {ids.size(0), kExperts}, 1.0 / kExperts);
    backend->run(BalanceLoss{.scores = scores, .group = group, .coefficients = coefficients, .loss = total});
    return oracle::read(total)(0);
  }

  /// Token t chooses experts t K, t K + 1, ... modulo E: every expert equally often when E divides T K.
  View even_choice(int64_t tokens, int64_t top_k) {
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < tokens * top_k; ++i) ids.push_back(i % kExperts);
    return s.indices({tokens, top_k}, ids);
  }
};

TEST(CpuBalance, EvenRoutingCostsAlphaWhateverKAndTheNumberOfDevices) {
  for (const int64_t top_k : {1, 2, 6}) {
    for (const int devices : {1, 4, static_cast<int>(kExperts)}) {
      Balance balance;
      const View group = balance.s.constant(DType::i32, {48}, 0);
      // The device level sums over groups: with one expert per device it is the expert level, f' P' summing to 1 in
      // both.
      EXPECT_NEAR(balance.loss(balance.even_choice(48, top_k), group, 48, devices), kAlpha, 1e-7);
    }
  }
}

TEST(CpuBalance, OneExpertTakingAllUnderEqualScoresCostsAlpha) {
  Balance balance;
  const View ids = balance.s.constant(DType::i32, {48, 1}, 5);
  // f is E for one expert and 0 for the others; equal scores make P = 1 / E.
  EXPECT_NEAR(balance.loss(ids, balance.s.constant(DType::i32, {48}, 0), 48, kExperts), kAlpha, 1e-7);
}

TEST(CpuBalance, PaddingCostsNothingAndCountsNowhere) {
  Balance balance;
  std::vector<int64_t> group(60, 0);
  for (size_t t = 48; t < 60; ++t) group[t] = -1;
  const double padded = balance.loss(balance.even_choice(60, 2), balance.s.indices({60}, group), 48, 4);
  EXPECT_NEAR(padded, kAlpha, 1e-7);
}

TEST(CpuBalance, AGroupWithoutTokensHasNoCoefficients) {
  Balance balance;
  const View coefficients = balance.s.poison(DType::f32, {1, kExperts});
  balance.backend->run(BalanceCoefficients{.counts = balance.s.constant(DType::i32, {1, kExperts}, 0),
                                           .group_tokens = balance.s.indices({1}, {0}),
                                           .inv_tokens = balance.s.constant(DType::f32, {1}, 1),
                                           .top_k = 2,
                                           .alpha = 1,
                                           .devices = kExperts,
                                           .coefficients = coefficients});
  for (const double value : oracle::read(coefficients).values()) EXPECT_EQ(value, 0);
}

}  // namespace
}  // namespace moe
