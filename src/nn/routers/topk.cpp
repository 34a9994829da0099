/// The K best of scores, docs/paper.md eq. (10)-(17), and every method that is a variant of it by configuration only.

#include "nn/routers/method.h"

namespace moe {
namespace {

void parameters(const RouterConfig& config, const RouterSizes& sizes, RouterWeights& weights, const AddParameter& add) {
  add_projection(config, sizes, weights, add);
  if (!config.biased) return;
  add({.name = "router.bias",
       .role = ParameterRole::router_own,
       .kind = ParameterKind::router_state,
       .shape = {config.experts},
       .start = InitialValue::zero,
       .type = ParameterType::stat,
       .learned = false,
       .decays = false,
       .file_name = "mlp.gate.e_score_correction_bias"},
      weights.bias);
}

/// The router's input: x, or x times noise near 1.
View router_input(Pass& pass, const RouterInput& in) {
  if (!in.context.mode.training || in.config.jitter == 0) return in.x;
  const View jittered = pass.temporary("router.jittered", in.x.shape);
  pass.backend.run(RouterJitter{.x = in.x,
                                .amount = in.config.jitter,
                                .draws = in.context.mode.draws("router_jitter", in.context.layer),
                                .y = jittered});
  return jittered;
}

void choose(Pass& pass, const RouterInput& in, const RouterWeights& weights, Route& route) {
  const RouterConfig& config = in.config;
  const int64_t count = in.context.tokens.count();
  route.scores = pass.saved.push("router.scores", pass.stat(), {count, config.experts});
  if (config.log_sum && in.context.mode.training)
    route.log_sum = pass.saved.push("router.log_sum", pass.stat(), {count});
  const Arena::Frame frame(pass.scratch);
  const RouterScores scores{.x = router_input(pass, in),
                            .weight = weights.project.weight,
                            .scoring = config.scoring,
                            .scores = route.scores,
                            .log_sum = route.log_sum};
  if (in.context.replay) return pass.backend.run(scores);
  const RouterTopk choice{.scores = route.scores,
                          .bias = weights.bias,
                          .group = in.context.tokens.valid,
                          .limit = config.limit,
                          .skip = config.skip,
                          .even = config.even,
                          .ids = route.choice.ids};
  const RouterGates gates{.scores = route.scores,
                          .ids = route.choice.ids,
                          .form = config.form,
                          .scale = config.scale,
                          .gates = route.choice.gates};
  if (!route.choice.kept) {
    const RouteTokens op{.scores = scores, .choice = choice, .gates = gates, .plan = plan_of(route)};
    in.held != nullptr ? static_cast<void>(*in.held = op) : pass.backend.run(op);
    route.planned = true;
    return;
  }
  pass.backend.run(scores);
  pass.backend.run(choice);
  pass.backend.run(gates);
}

/// The ids that f counts: the first choice of each token, the choice by scores alone, or all choices.
View counted_ids(Pass& pass, const RouterInput& in, const Route& route) {
  if (in.balance.first_choice) return route.choice.ids.columns(0, 1);
  if (!in.config.balances_own_scores()) return route.choice.ids;
  const View ids = pass.scratch.push("router.unbiased", DType::i32, route.choice.ids.shape);
  pass.backend.run(RouterTopk{.scores = route.scores, .group = in.context.tokens.valid, .ids = ids});
  return ids;
}

void sum(Pass& pass, const RouterInput& in, const Route& route, View group, const BalanceSums& sums) {
  const auto count = [&](View ids, View counts) {
    pass.backend.run(RouterCounts{.ids = ids, .group = group, .experts = in.config.experts, .counts = counts});
  };
  if (sums.counts) count(counted_ids(pass, in, route), sums.counts);
  if (sums.reach) count(route.choice.ids, sums.reach);
}

/// A balance loss with its weight, from which its coefficients are computed.
struct BalanceTerm {
  RouterLoss loss;
  float alpha;
  View counts;
  int64_t top_k;
  int64_t devices;
};

std::array<BalanceTerm, 3> balance_terms(const RouterInput& in, const BalanceSums& sums) {
  const BalanceConfig& balance = in.balance;
  const int64_t top_k = balance.first_choice ? 1 : in.config.top_k;
  const GroupLimit& limit = in.config.limit;
  return {{{RouterLoss::expert, balance.alpha_expert, sums.counts, top_k, in.config.experts},
           {RouterLoss::device, balance.alpha_device, sums.counts, top_k, balance.devices},
           {RouterLoss::communication, balance.alpha_communication, sums.reach, limit.used, limit.groups}}};
}

BalanceCoefficients coefficients(const RouterInput& in, const BalanceTerm& term, View factors, bool accumulate) {
  return {.counts = term.counts,
          .group_tokens = in.context.groups.group_tokens,
          .inv_tokens = in.context.groups.inv_tokens,
          .top_k = static_cast<int>(term.top_k),
          .alpha = term.alpha,
          .devices = static_cast<int>(term.devices),
          .coefficients = factors,
          .accumulate = accumulate};
}

void losses(Pass& pass, const RouterInput& in, const Route& route, const BalanceSums& sums) {
  View factors;
  for (const BalanceTerm& term : balance_terms(in, sums)) {
    if (term.alpha == 0) continue;
    if (!factors) factors = balance_factors(pass, in);
    pass.backend.run(coefficients(in, term, factors, false));
    pass.backend.run(BalanceLoss{.scores = route.scores,
                                 .group = in.group(),
                                 .coefficients = factors,
                                 .normalized = in.config.balances_own_scores(),
                                 .loss = loss_of(in, term.loss)});
  }
  if (in.balance.z_loss == 0) return;
  pass.backend.run(RouterZLoss{.log_sum = route.log_sum,
                               .group = in.group(),
                               .inv_tokens = in.context.groups.inv_tokens,
                               .weight = in.balance.z_loss,
                               .loss = loss_of(in, RouterLoss::z)});
}

void backward(Pass& pass, const RouterInput& in, const RouterWeights& weights, const RouterWeights& gradients,
              const Route& route, const BalanceSums& sums, View d_gates, View dx) {
  const RouterConfig& config = in.config;
  View factors;
  for (const BalanceTerm& term : balance_terms(in, sums)) {
    if (term.alpha == 0) continue;
    if (!factors) factors = balance_factors(pass, in);
    pass.backend.run(coefficients(in, term, factors, true));
  }
  const bool z = in.balance.z_loss != 0;
  const View d_logits = pass.scratch.push("router.d_logits", pass.stat(), route.scores.shape);
  pass.backend.run(RouterBackward{.scores = route.scores,
                                  .ids = route.choice.ids,
                                  .kept = route.choice.kept,
                                  .d_gates = d_gates,
                                  .group = in.group(),
                                  .coefficients = factors,
                                  .scoring = config.scoring,
                                  .form = config.form,
                                  .scale = config.scale,
                                  .balance_normalized = config.balances_own_scores(),
                                  .log_sum = z ? route.log_sum : View{},
                                  .inv_tokens = z ? in.context.groups.inv_tokens : View{},
                                  .z_loss = in.balance.z_loss,
                                  .d_logits = d_logits});
  if (!in.context.mode.training || config.jitter == 0) {
    return logits_backward(pass, weights.project, gradients.project, d_logits, in.x, dx);
  }
  const View d_jittered = pass.temporary("router.d_jittered", in.x.shape);
  linear_weight_gradient(pass, gradients.project, d_logits, router_input(pass, in));
  linear_input_gradient(pass, weights.project, d_logits, d_jittered);
  pass.backend.run(RouterJitter{.x = d_jittered,
                                .amount = config.jitter,
                                .draws = in.context.mode.draws("router_jitter", in.context.layer),
                                .y = dx,
                                .accumulate = true});
}

}  // namespace

const RouterFunctions& topk_router() {
  static constexpr RouterFunctions functions{parameters, choose, sum, losses, backward, true};
  return functions;
}

}  // namespace moe
