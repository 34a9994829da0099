#pragma once
/// One routing method: the five functions that a file of this folder gives to router.cpp (docs/add-a-router.md).

#include "nn/parameter.h"
#include "nn/routers/router_input.h"

namespace moe {

struct RouterFunctions {
  /// Describes the method's parameters and the views of `weights` that hold them. Called once per layer, and for
  /// weights and gradients alike.
  void (*parameters)(const RouterConfig& config, const RouterSizes& sizes, RouterWeights& weights,
                     const AddParameter& add);
  /// Fills the method's own views of `route`. Fills the ids and gates of its choice, unless the context replays an old
  /// choice. It may run the plan too (plan_of), if nothing is dropped after it; then it sets `planned`.
  void (*choose)(Pass& pass, const RouterInput& in, const RouterWeights& weights, Route& route);
  /// Adds to `sums`, for the tokens' `group`, what the balance losses need. Absent views are not needed.
  void (*sum)(Pass& pass, const RouterInput& in, const Route& route, View group, const BalanceSums& sums);
  /// Adds the losses to in.context.stats.losses. Balance losses use `sums`.
  void (*losses)(Pass& pass, const RouterInput& in, const Route& route, const BalanceSums& sums);
  /// The method's part of route_backward.
  void (*backward)(Pass& pass, const RouterInput& in, const RouterWeights& weights, const RouterWeights& gradients,
                   const Route& route, const BalanceSums& sums, View d_gates, View dx);
  /// True if `choose` is one operation where nothing is dropped, and respects RouterInput::held.
  bool one_operation = false;
};

const RouterFunctions& topk_router();
const RouterFunctions& noisy_topk_router();
const RouterFunctions& hash_router();
const RouterFunctions& expert_choice_router();
const RouterFunctions& stable_router();

/// The accumulator of the layer's loss of this kind.
inline View loss_of(const RouterInput& in, RouterLoss loss) {
  return in.context.stats.losses.rows(static_cast<int64_t>(loss), 1);
}

/// The projection to scores [E, D], the parameter "router".
void add_projection(const RouterConfig& config, const RouterSizes& sizes, RouterWeights& weights,
                    const AddParameter& add, InitialValue start = InitialValue::normal);

/// The gradient of the weight, and dx += d_logits W.
void logits_backward(Pass& pass, const Linear& map, const Linear& gradient, View d_logits, View x, View dx);

/// The order of rows that follows from the choice.
RoutePlan plan_of(const Route& route);

/// [G, E] factors in scratch memory, all 0.
View balance_factors(Pass& pass, const RouterInput& in);

/// The functions of a method without losses.
void no_sums(Pass& pass, const RouterInput& in, const Route& route, View group, const BalanceSums& sums);
void no_losses(Pass& pass, const RouterInput& in, const Route& route, const BalanceSums& sums);

}  // namespace moe
