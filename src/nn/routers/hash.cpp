/// Hash Layer, Roller et al. 2021: a table gives each token id its expert, with gate 1. Nothing is learned.

#include "nn/routers/method.h"

namespace moe {
namespace {

void parameters(const RouterConfig&, const RouterSizes& sizes, RouterWeights& weights, const AddParameter& add) {
  add({.name = "router.table",
       .role = ParameterRole::router_own,
       .kind = ParameterKind::router_state,
       .shape = {sizes.vocabulary},
       .start = InitialValue::table,
       .type = ParameterType::index,
       .learned = false,
       .decays = false,
       .file_name = "mlp.gate.hash_table"},
      weights.table);
}

void choose(Pass& pass, const RouterInput& in, const RouterWeights& weights, Route& route) {
  if (in.context.replay) return;
  pass.backend.run(TableRoute{.tokens = in.context.tokens.ids,
                              .table = weights.table,
                              .group = in.context.tokens.valid,
                              .ids = route.choice.ids});
  pass.backend.run(RouterGates{.ids = route.choice.ids, .form = GateForm::one, .gates = route.choice.gates});
}

void backward(Pass&, const RouterInput&, const RouterWeights&, const RouterWeights&, const Route&, const BalanceSums&,
              View, View) {}

}  // namespace

const RouterFunctions& hash_router() {
  static constexpr RouterFunctions functions{parameters, choose, no_sums, no_losses, backward};
  return functions;
}

}  // namespace moe
