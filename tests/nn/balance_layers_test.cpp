// FIELD 1a: balance losses of several layers must not be pooled, or layers of opposite imbalance cancel.

#include <array>
#include <vector>

#include <gtest/gtest.h>

#include "nn/routers/router.h"
#include "tests/oracle/oracle.h"

namespace moe {
namespace {

// The expert-level loss of one layer of two experts, K = 1, whose router sends every token to `favoured`.
double layer_loss(int favoured, float alpha) {
  constexpr int64_t kTokens = 6;
  constexpr int64_t kHidden = 3;
  constexpr int64_t kExperts = 2;
  const auto oracle = make_oracle();
  std::vector<double> memory(1 << 12);
  std::vector<double> scratch_memory(1 << 12);
  Arena saved("saved", memory.data(), memory.size() * sizeof(double));
  Arena scratch("scratch", scratch_memory.data(), scratch_memory.size() * sizeof(double));
  Pass pass{.backend = *oracle, .saved = saved, .scratch = scratch, .dtype = DType::f64};

  std::vector<double> x(kTokens * kHidden, 1.0);
  std::vector<double> router(kExperts * kHidden, 0.0);
  for (int64_t i = 0; i < kHidden; ++i) router[static_cast<size_t>(favoured * kHidden + i)] = 1.0;
  std::vector<int32_t> zeros(kTokens, 0);
  std::vector<int32_t> group_tokens{kTokens};
  std::vector<double> inv_tokens{1.0 / kTokens};
  std::vector<double> losses(kRouterLosses, 0.0);
  const View tokens_view(zeros.data(), DType::i32, {kTokens});
  const TokenViews tokens{.ids = tokens_view,
                          .positions = tokens_view,
                          .rope = {},
                          .segment_start = tokens_view,
                          .valid = tokens_view,
                          .max_segment = kTokens};
  const RouterConfig config{.experts = kExperts, .top_k = 1};
  const BalanceConfig balance{.alpha_expert = alpha};
  const BalanceViews views{.group = tokens_view,
                           .group_tokens = View(group_tokens.data(), DType::i32, {1}),
                           .inv_tokens = View(inv_tokens.data(), DType::f64, {1})};
  const RouteChoice choice{.ids = saved.push("ids", DType::i32, {kTokens, 1}),
                           .gates = saved.push("gates", DType::f64, {kTokens, 1})};
  const LayerStats stats{.losses = View(losses.data(), DType::f64, {kRouterLosses})};
  const RouterWeights weights{.weight = View(router.data(), DType::f64, {kExperts, kHidden})};
  const RouterInput input{.config = config,
                          .balance = balance,
                          .tokens = tokens,
                          .views = views,
                          .stats = stats,
                          .mode = {.training = true},
                          .layer = 0,
                          .x = View(x.data(), DType::f64, {kTokens, kHidden})};
  const Route route = route_forward(pass, input, weights, choice, false);
  route_losses(pass, input, route);
  return losses[static_cast<size_t>(RouterLoss::expert)];
}

TEST(BalanceLayers, OppositeImbalancesDoNotCancel) {
  const float alpha = 0.5f;
  const double first = layer_loss(0, alpha);
  const double second = layer_loss(1, alpha);
  // Each layer alone: f = (2, 0), P = (0.953, 0.047), so alpha * 1.905. Pooled, f would be (1, 1): alpha * 1 in all.
  EXPECT_NEAR(first, 0.5 * 1.905148, 1e-6);
  EXPECT_NEAR(second, first, 1e-12);
  EXPECT_GT(first + second, 2 * alpha * 1.5);
}

}  // namespace
}  // namespace moe
