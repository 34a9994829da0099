/// Expert choice, Zhou et al. 2022. In each batch row every expert takes the tokens with the highest scores for it.
/// Their number is the one that each expert would have with c experts per token. The gate is the score. A token may
/// have no expert or all of them. The choice looks at later tokens, so it is not causal.

#include "nn/routers/method.h"

namespace moe {
namespace {

void parameters(const RouterConfig& config, const RouterSizes& sizes, RouterWeights& weights, const AddParameter& add) {
  add_projection(config, sizes, weights, add);
}

void choose(Pass& pass, const RouterInput& in, const RouterWeights& weights, Route& route) {
  route.scores = pass.saved.push("router.scores", pass.stat(), {in.context.tokens.count(), in.config.experts});
  pass.backend.run(RouterScores{.x = in.x, .weight = weights.project.weight, .scores = route.scores});
  if (in.context.replay) return;
  MOE_CHECK(in.context.tokens.row_length > 0);  // with a cache there are no rows to choose from
  pass.backend.run(ExpertChoice{.scores = route.scores,
                                .group = in.context.tokens.valid,
                                .factor = in.config.capacity,
                                .row_length = in.context.tokens.row_length,
                                .ids = route.choice.ids});
  pass.backend.run(RouterGates{.scores = route.scores, .ids = route.choice.ids, .gates = route.choice.gates});
}

void backward(Pass& pass, const RouterInput& in, const RouterWeights& weights, const RouterWeights& gradients,
              const Route& route, const BalanceSums&, View d_gates, View dx) {
  const View d_logits = pass.scratch.push("router.d_logits", pass.stat(), route.scores.shape);
  pass.backend.run(RouterBackward{
      .scores = route.scores, .ids = route.choice.ids, .d_gates = d_gates, .group = in.group(), .d_logits = d_logits});
  logits_backward(pass, weights.project, gradients.project, d_logits, in.x, dx);
}

}  // namespace

const RouterFunctions& expert_choice_router() {
  static constexpr RouterFunctions functions{parameters, choose, no_sums, no_losses, backward};
  return functions;
}

}  // namespace moe
