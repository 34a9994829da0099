/// StableMoE, Dai et al. 2022. Stage 1: each token takes the expert with the largest sigma(x . e_i), with a balance
/// loss. A light router, which sees only token ids, learns the same assignment by cross-entropy. In stage 2, and always
/// in evaluation, the frozen light router assigns. The gate is sigma(x . e_a) in both stages.

#include "nn/routers/method.h"

namespace moe {
namespace {

void parameters(const RouterConfig& config, const RouterSizes& sizes, RouterWeights& weights, const AddParameter& add) {
  add_projection(config, sizes, weights, add);
  // The gradients of the light router are always added to: it learns in the first stage only.
  const auto light = [&](const char* name, int64_t rows, const char* file_name, View& view) {
    add({.name = name,
         .role = ParameterRole::router_own,
         .kind = ParameterKind::light_router,
         .shape = {rows, kLightWidth},
         .type = ParameterType::exact,
         .gradient_is_added = true,
         .file_name = file_name},
        view);
  };
  light("router.light_embedding", sizes.vocabulary, "mlp.gate.light_embedding", weights.light_embedding);
  light("router.light_centroids", config.experts, "mlp.gate.light_centroids", weights.light_centroids.weight);
}

View light_input(Pass& pass, const RouterInput& in, const RouterWeights& weights) {
  const View rows = pass.temporary("router.light_input", {in.context.tokens.count(), kLightWidth});
  pass.backend.run(Embed{.tokens = in.context.tokens.ids, .table = weights.light_embedding, .y = rows});
  return rows;
}

void choose(Pass& pass, const RouterInput& in, const RouterWeights& weights, Route& route) {
  const bool learning = in.context.mode.training && in.context.mode.learning;
  const Shape shape{in.context.tokens.count(), in.config.experts};
  route.scores = pass.saved.push("router.scores", pass.stat(), shape);
  if (learning) route.light = pass.saved.push("router.light", pass.stat(), shape);
  pass.backend.run(
      RouterScores{.x = in.x, .weight = weights.project.weight, .scoring = Scoring::sigmoid, .scores = route.scores});
  if (in.context.replay && !learning) return;
  const Arena::Frame frame(pass.scratch);
  const View light = learning ? route.light : pass.scratch.push("router.light", pass.stat(), shape);
  pass.backend.run(
      RouterScores{.x = light_input(pass, in, weights), .weight = weights.light_centroids.weight, .scores = light});
  if (in.context.replay) return;
  pass.backend.run(RouterTopk{.scores = learning ? route.scores : light,
                              .bias = weights.bias,
                              .group = in.context.tokens.valid,
                              .skip = in.config.skip,
                              .even = in.config.even,
                              .ids = route.choice.ids});
  pass.backend.run(RouterGates{.scores = route.scores, .ids = route.choice.ids, .gates = route.choice.gates});
}

void sum(Pass& pass, const RouterInput& in, const Route& route, View group, const BalanceSums& sums) {
  if (!sums.counts || !in.context.mode.learning) return;
  pass.backend.run(
      RouterCounts{.ids = route.choice.ids, .group = group, .experts = in.config.experts, .counts = sums.counts});
}

/// weight * (n_i E / T - 1) per unit of a chosen gate; absent after stage 1.
View gate_factors(Pass& pass, const RouterInput& in, const BalanceSums& sums) {
  if (!in.context.mode.learning || in.balance.stable_balance == 0) return {};
  const View factors = balance_factors(pass, in);
  pass.backend.run(BalanceCoefficients{.counts = sums.counts,
                                       .group_tokens = in.context.groups.group_tokens,
                                       .inv_tokens = in.context.groups.inv_tokens,
                                       .top_k = 1,
                                       .alpha = in.balance.stable_balance,
                                       .devices = static_cast<int>(in.config.experts),
                                       .offset = 1,
                                       .coefficients = factors});
  return factors;
}

Distillation distillation(const RouterInput& in, const Route& route) {
  return {.scores = route.light,
          .ids = route.choice.ids,
          .group = in.context.tokens.valid,
          .inv_tokens = in.context.groups.inv_tokens,
          .weight = in.balance.stable_distillation};
}

bool distills(const RouterInput& in) { return in.context.mode.learning && in.balance.stable_distillation != 0; }

void losses(Pass& pass, const RouterInput& in, const Route& route, const BalanceSums& sums) {
  if (const View factors = gate_factors(pass, in, sums)) {
    pass.backend.run(GateLoss{.gates = route.choice.gates,
                              .ids = route.choice.ids,
                              .group = in.group(),
                              .coefficients = factors,
                              .loss = loss_of(in, RouterLoss::stable_balance)});
  }
  if (!distills(in)) return;
  Distillation op = distillation(in, route);
  op.loss = loss_of(in, RouterLoss::distillation);
  pass.backend.run(op);
}

void backward(Pass& pass, const RouterInput& in, const RouterWeights& weights, const RouterWeights& gradients,
              const Route& route, const BalanceSums& sums, View d_gates, View dx) {
  const View d_logits = pass.scratch.push("router.d_logits", pass.stat(), route.scores.shape);
  pass.backend.run(RouterBackward{.scores = route.scores,
                                  .ids = route.choice.ids,
                                  .d_gates = d_gates,
                                  .group = in.group(),
                                  .gate_coefficients = gate_factors(pass, in, sums),
                                  .scoring = Scoring::sigmoid,
                                  .d_logits = d_logits});
  logits_backward(pass, weights.project, gradients.project, d_logits, in.x, dx);
  if (!distills(in)) return;
  Distillation op = distillation(in, route);
  op.d_logits = d_logits;
  pass.backend.run(op);
  // These gradients start at 0 in every step and are always added to. After stage 1 they stay 0.
  const View rows = light_input(pass, in, weights), d_rows = pass.temporary("router.d_light_input", rows.shape);
  linear_weight_gradient(pass, gradients.light_centroids, d_logits, rows, true);
  if (!gradients.light_embedding) return;
  linear_input_gradient(pass, weights.light_centroids, d_logits, d_rows);
  pass.backend.run(EmbedBackward{.tokens = in.context.tokens.ids, .dy = d_rows, .d_table = gradients.light_embedding});
}

}  // namespace

const RouterFunctions& stable_router() {
  static constexpr RouterFunctions functions{parameters, choose, sum, losses, backward};
  return functions;
}

}  // namespace moe
