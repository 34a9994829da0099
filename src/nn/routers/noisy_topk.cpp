/// Shazeer et al. 2017: the K best of h_i = x . w_i + n softplus(x . v_i), with n standard normal in training and 0
/// otherwise. The gates are the softmax over the K kept logits. The losses want equal sums of gates (importance) and of
/// probabilities to be chosen (load) for all experts: weight * CV^2 of each. docs/routing.md.

#include "nn/routers/method.h"

namespace moe {
namespace {

void parameters(const RouterConfig& config, const RouterSizes& sizes, RouterWeights& weights, const AddParameter& add) {
  add_projection(config, sizes, weights, add, InitialValue::zero);
  add({.name = "router.noise",
       .role = ParameterRole::router_own,
       .kind = ParameterKind::router,
       .shape = {config.experts, sizes.hidden},
       .start = InitialValue::zero,
       .type = ParameterType::exact,
       .file_name = "mlp.gate.noise_weight"},
      weights.noise.weight);
}

void choose(Pass& pass, const RouterInput& in, const RouterWeights& weights, Route& route) {
  const Shape shape{in.context.tokens.count(), in.config.experts};
  const auto logits = [&](View weight, View scores) {
    pass.backend.run(RouterScores{.x = in.x, .weight = weight, .scoring = Scoring::none, .scores = scores});
  };
  route.scores = pass.saved.push("router.noisy", pass.stat(), shape);
  if (in.context.mode.training) {
    route.clean = pass.saved.push("router.clean", pass.stat(), shape);
    route.raw = pass.saved.push("router.noise", pass.stat(), shape);
    logits(weights.project.weight, route.clean);
    logits(weights.noise.weight, route.raw);
    pass.backend.run(RouterNoise{.clean = route.clean,
                                 .raw = route.raw,
                                 .draws = in.context.mode.draws("router_noise", in.context.layer),
                                 .noisy = route.scores});
  } else {
    logits(weights.project.weight, route.scores);
  }
  if (in.context.replay) return;
  pass.backend.run(RouterTopk{.scores = route.scores,
                              .bias = weights.bias,
                              .group = in.context.tokens.valid,
                              .skip = in.config.skip,
                              .even = in.config.even,
                              .ids = route.choice.ids});
  pass.backend.run(RouterGates{
      .scores = route.scores, .ids = route.choice.ids, .form = in.config.form, .gates = route.choice.gates});
}

/// With K = E every expert is certainly chosen.
bool has_load(const RouterInput& in) { return in.config.top_k < in.config.experts; }

void sum(Pass& pass, const RouterInput& in, const Route& route, View group, const BalanceSums& sums) {
  if (sums.importance) {
    pass.backend.run(
        ExpertSums{.values = route.choice.gates, .ids = route.choice.ids, .group = group, .sums = sums.importance});
  }
  if (!sums.load || !has_load(in)) return;
  const View load = pass.scratch.push("router.load", pass.stat(), route.scores.shape);
  pass.backend.run(
      NoiseLoad{.clean = route.clean, .raw = route.raw, .noisy = route.scores, .top_k = in.config.top_k, .load = load});
  pass.backend.run(ExpertSums{.values = load, .group = group, .sums = sums.load});
}

VariationLoss variation(const RouterInput& in, View sums, float weight) {
  return {.sums = sums,
          .group_tokens = in.context.groups.group_tokens,
          .inv_tokens = in.context.groups.inv_tokens,
          .weight = weight};
}

void losses(Pass& pass, const RouterInput& in, const Route&, const BalanceSums& sums) {
  // In step scope every microbatch has the sums of the whole step, so only one of them adds the loss.
  if (in.balance.scope == BalanceScope::step && in.context.mode.first_token != 0) return;
  const auto add = [&](View of, float weight, RouterLoss loss) {
    if (!of) return;
    VariationLoss op = variation(in, of, weight);
    op.loss = loss_of(in, loss);
    pass.backend.run(op);
  };
  add(sums.importance, in.balance.importance, RouterLoss::importance);
  if (has_load(in)) add(sums.load, in.balance.load, RouterLoss::load);
}

void backward(Pass& pass, const RouterInput& in, const RouterWeights& weights, const RouterWeights& gradients,
              const Route& route, const BalanceSums& sums, View d_gates, View dx) {
  const auto factors_of = [&](View of, float weight) {
    if (!of) return View{};
    VariationLoss op = variation(in, of, weight);
    op.coefficients = balance_factors(pass, in);
    pass.backend.run(op);
    return op.coefficients;
  };
  const View by_importance = factors_of(sums.importance, in.balance.importance);
  const View by_load = has_load(in) ? factors_of(sums.load, in.balance.load) : View{};
  const auto temporary = [&](const char* what) { return pass.scratch.push(what, pass.stat(), route.scores.shape); };
  const View d_noisy = temporary("router.d_noisy"), d_clean = temporary("router.d_clean"),
             d_raw = temporary("router.d_noise");
  pass.backend.run(RouterBackward{.scores = route.scores,
                                  .ids = route.choice.ids,
                                  .d_gates = d_gates,
                                  .group = in.group(),
                                  .gate_coefficients = by_importance,
                                  .scoring = Scoring::none,
                                  .form = in.config.form,
                                  .d_logits = d_noisy});
  pass.backend.run(NoiseBackward{.clean = route.clean,
                                 .raw = route.raw,
                                 .noisy = route.scores,
                                 .d_noisy = d_noisy,
                                 .group = in.group(),
                                 .coefficients = by_load,
                                 .top_k = in.config.top_k,
                                 .draws = in.context.mode.draws("router_noise", in.context.layer),
                                 .d_clean = d_clean,
                                 .d_raw = d_raw});
  logits_backward(pass, weights.project, gradients.project, d_clean, in.x, dx);
  logits_backward(pass, weights.noise, gradients.noise, d_raw, in.x, dx);
}

}  // namespace

const RouterFunctions& noisy_topk_router() {
  static constexpr RouterFunctions functions{parameters, choose, sum, losses, backward};
  return functions;
}

}  // namespace moe
