#include "nn/routers/softmax_topk.h"

namespace moe {
namespace {

// Counts per balance group: of the whole step where the scope says so, else of this microbatch's groups.
View balance_counts(Pass& pass, const RouterConfig& config, const BalanceConfig& balance, const BalanceViews& views,
                    const LayerStats& stats, const Route& route) {
  if (balance.scope == BalanceScope::step) return stats.step_counts;
  const View counts = pass.scratch.push("router.counts", DType::i32, {views.group_tokens.size(0), config.experts});
  pass.backend.run(Fill{.x = counts, .value = 0});
  pass.backend.run(RouterCounts{.ids = route.choice.ids, .group = views.group, .counts = counts});
  return counts;
}

BalanceCoefficients coefficients(const RouterConfig& config, const BalanceViews& views, View counts, float alpha,
                                 int64_t devices, View target, bool accumulate) {
  return {.counts = counts,
          .group_tokens = views.group_tokens,
          .inv_tokens = views.inv_tokens,
          .top_k = static_cast<int>(config.top_k),
          .alpha = alpha,
          .devices = static_cast<int>(devices),
          .coefficients = target,
          .accumulate = accumulate};
}

}  // namespace

const char* name(BalanceScope scope) {
  switch (scope) {
    case BalanceScope::sequence:
      return "sequence";
    case BalanceScope::microbatch:
      return "microbatch";
    case BalanceScope::step:
      return "step";
  }
  return "?";
}

std::optional<BalanceScope> balance_scope_from(std::string_view text) {
  for (const auto scope : {BalanceScope::sequence, BalanceScope::microbatch, BalanceScope::step}) {
    if (text == name(scope)) return scope;
  }
  return std::nullopt;
}

Route route_forward(Pass& pass, const RouterConfig& config, View weight, View bias, const TokenViews& tokens, View x,
                    const RouteChoice& choice, bool replay) {
  const int64_t count = tokens.count();
  const int64_t rows = count * config.top_k;
  Route route{.choice = choice,
              .scores = pass.saved.push("router.scores", pass.stat(), {count, config.experts}),
              .offsets = pass.saved.push("router.offsets", DType::i32, {config.experts + 1}),
              .row_slot = pass.saved.push("router.row_slot", DType::i32, {rows}),
              .row_token = pass.saved.push("router.row_token", DType::i32, {rows}),
              .slot_row = pass.saved.push("router.slot_row", DType::i32, {count, config.top_k})};
  pass.backend.run(RouterScores{.x = x, .weight = weight, .scores = route.scores});
  if (!replay) {
    pass.backend.run(RouterTopk{.scores = route.scores,
                                .bias = bias,
                                .group = tokens.valid,
                                .normalize = config.normalize,
                                .skip = config.skip,
                                .ids = choice.ids,
                                .gates = choice.gates});
  }
  pass.backend.run(RoutePlan{.ids = choice.ids,
                             .offsets = route.offsets,
                             .row_slot = route.row_slot,
                             .row_token = route.row_token,
                             .slot_row = route.slot_row});
  return route;
}

void route_losses(Pass& pass, const RouterConfig& config, const BalanceConfig& balance, const BalanceViews& views,
                  const LayerStats& stats, const Route& route) {
  if (stats.counts) {
    pass.backend.run(RouterCounts{.ids = route.choice.ids, .group = stats.group, .counts = stats.counts});
  }
  if (!stats.expert_loss || !balance.active()) return;
  const Arena::Frame frame(pass.scratch);
  const View counts = balance_counts(pass, config, balance, views, stats, route);
  const View factors = pass.scratch.push("router.coefficients", pass.stat(), counts.shape);
  const auto add_loss = [&](float alpha, int64_t devices, View loss) {
    if (alpha == 0) return;
    pass.backend.run(coefficients(config, views, counts, alpha, devices, factors, false));
    pass.backend.run(BalanceLoss{.scores = route.scores, .group = views.group, .coefficients = factors, .loss = loss});
  };
  add_loss(balance.alpha_expert, config.experts, stats.expert_loss);
  add_loss(balance.alpha_device, balance.devices, stats.device_loss);
}

void route_backward(Pass& pass, const RouterConfig& config, const BalanceConfig& balance, const BalanceViews& views,
                    const LayerStats& stats, const TokenViews& tokens, View weight, View d_weight, const Route& route,
                    View x, View d_gates, View dx) {
  const Arena::Frame frame(pass.scratch);
  View factors;
  if (balance.active()) {
    const View counts = balance_counts(pass, config, balance, views, stats, route);
    factors = pass.scratch.push("router.coefficients", pass.stat(), counts.shape);
    pass.backend.run(coefficients(config, views, counts, balance.alpha_expert, config.experts, factors, false));
    pass.backend.run(coefficients(config, views, counts, balance.alpha_device, balance.devices, factors, true));
  }
  const View d_logits = pass.scratch.push("router.d_logits", pass.stat(), route.scores.shape);
  pass.backend.run(RouterBackward{.scores = route.scores,
                                  .ids = route.choice.ids,
                                  .d_gates = d_gates,
                                  .group = balance.active() ? views.group : tokens.valid,
                                  .coefficients = factors,
                                  .normalize = config.normalize,
                                  .d_logits = d_logits});
  linear_weight_gradient(pass, d_logits, x, d_weight);
  linear_input_gradient(pass, d_logits, weight, dx, true);
}

}  // namespace moe
