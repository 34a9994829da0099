#include "nn/routers/method.h"

namespace moe {

void add_projection(const RouterConfig& config, const RouterSizes& sizes, RouterWeights& weights,
                    const AddParameter& add, InitialValue start) {
  add({.name = "router",
       .role = ParameterRole::router,
       .kind = ParameterKind::router,
       .shape = {config.experts, sizes.hidden},
       .start = start,
       .type = ParameterType::exact},
      weights.project.weight);
}

void logits_backward(Pass& pass, const Linear& map, const Linear& gradient, View d_logits, View x, View dx) {
  linear_weight_gradient(pass, gradient, d_logits, x);
  linear_input_gradient(pass, map, d_logits, dx, true);
}

RoutePlan plan_of(const Route& route) {
  return {.ids = route.choice.used(),
          .offsets = route.offsets,
          .row_slot = route.row_slot,
          .row_token = route.row_token,
          .slot_row = route.slot_row};
}

View balance_factors(Pass& pass, const RouterInput& in) {
  const View factors = pass.scratch.push("router.coefficients", pass.stat(),
                                         {in.context.groups.group_tokens.size(0), in.config.experts});
  pass.backend.run(Fill{.x = factors, .value = 0});
  return factors;
}

void no_sums(Pass&, const RouterInput&, const Route&, View, const BalanceSums&) {}
void no_losses(Pass&, const RouterInput&, const Route&, const BalanceSums&) {}

}  // namespace moe
