// FIELD 1a: balance losses of several layers must not be pooled, or layers of opposite imbalance cancel.

#include <array>
#include <vector>

#include <gtest/gtest.h>

#include "nn/routers/router.h"
#include "tests/oracle/oracle.h"

namespace moe {
namespace {

constexpr int64_t kTokens = 6, kHidden = 3, kExperts = 2, kLayers = 2;

// The expert-level losses of two layers of two experts, K = 1, in one microbatch and with memory for both, as a model
// runs them; layer l's router sends every token to favoured[l].
std::vector<double> layer_losses(const std::array<int, kLayers>& favoured, float alpha, BalanceScope scope) {
  const auto oracle = make_oracle();
  std::vector<double> memory(1 << 12);
  std::vector<double> scratch_memory(1 << 12);
  Arena saved("saved", memory.data(), memory.size() * sizeof(double));
  Arena scratch("scratch", scratch_memory.data(), scratch_memory.size() * sizeof(double));
  Pass pass{.backend = *oracle, .saved = saved, .scratch = scratch, .dtype = DType::f64};

  std::vector<double> x(kTokens * kHidden, 1.0);
  std::vector<double> router(kLayers * kExperts * kHidden, 0.0);
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    const int64_t row = layer * kExperts + favoured[static_cast<size_t>(layer)];
    for (int64_t i = 0; i < kHidden; ++i) router[static_cast<size_t>(row * kHidden + i)] = 1.0;
  }
  std::vector<int32_t> zeros(kTokens, 0), counts(kLayers * kExperts, 0);
  std::vector<int32_t> group_tokens{kTokens};
  std::vector<double> inv_tokens{1.0 / kTokens};
  std::vector<double> losses(kLayers * kRouterLosses, 0.0);
  const View tokens_view(zeros.data(), DType::i32, {kTokens});
  const TokenViews tokens{.ids = tokens_view,
                          .positions = tokens_view,
                          .rope = {},
                          .segment_start = tokens_view,
                          .valid = tokens_view,
                          .max_segment = kTokens};
  const RouterConfig config{.experts = kExperts, .top_k = 1};
  const BalanceConfig balance{.alpha_expert = alpha, .scope = scope};
  const BalanceViews groups{.group = tokens_view,
                            .group_tokens = View(group_tokens.data(), DType::i32, {1}),
                            .inv_tokens = View(inv_tokens.data(), DType::f64, {1})};
  const View all_losses(losses.data(), DType::f64, {kLayers, kRouterLosses});
  const View all_counts(counts.data(), DType::i32, {kLayers, 1, kExperts});
  const View all_weights(router.data(), DType::f64, {kLayers, kExperts, kHidden});
  const auto run_layers = [&](bool collect) {
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      const RouteChoice choice{.ids = saved.push("ids", DType::i32, {kTokens, 1}),
                               .gates = saved.push("gates", DType::f64, {kTokens, 1})};
      const LayerStats stats{
          .losses = all_losses.at(layer), .sums = {.counts = all_counts.at(layer)}, .collect = collect};
      const LayerContext context{.tokens = tokens,
                                 .groups = groups,
                                 .stats = stats,
                                 .mode = {.training = true},
                                 .layer = layer,
                                 .choice = choice};
      const RouterInput input{config, balance, context, View(x.data(), DType::f64, {kTokens, kHidden})};
      const Route route = route_forward(pass, input, {.project = {all_weights.at(layer)}});
      route_losses(pass, input, route);
    }
  };
  if (scope == BalanceScope::step) run_layers(true);
  run_layers(false);
  std::vector<double> result;
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    result.push_back(losses[static_cast<size_t>(layer * kRouterLosses) + static_cast<size_t>(RouterLoss::expert)]);
  }
  return result;
}

TEST(BalanceLayers, OppositeImbalancesDoNotCancel) {
  // Each layer alone: f = (2, 0), P = (0.953, 0.047), so alpha * 1.905. Pooled, f would be (1, 1): alpha * 1 in all.
  for (const BalanceScope scope : {BalanceScope::sequence, BalanceScope::microbatch, BalanceScope::step}) {
    for (const auto& favoured : {std::array{0, 1}, std::array{1, 0}, std::array{1, 1}}) {
      for (const double loss : layer_losses(favoured, 0.5f, scope))
        EXPECT_NEAR(loss, 0.5 * 1.905148, 1e-6) << name(scope);
    }
  }
}

}  // namespace
}  // namespace moe
