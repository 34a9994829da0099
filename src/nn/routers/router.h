#pragma once
/// What a MoE layer asks of its router, whatever the method: the choice of experts, the losses, and their gradients.
/// The letters are those of nn/routers/routing_types.h.

#include "nn/parameter.h"
#include "nn/routers/router_input.h"

namespace moe {

/// Gives the parameters of the method to `add`, in a fixed order.
void visit_router(const RouterConfig& config, const RouterSizes& sizes, RouterWeights& weights,
                  const AddParameter& add);

/// Scores and the context's choice (with `replay` the old choice is kept), and the order of rows.
Route route_forward(Pass& pass, const RouterInput& in, const RouterWeights& weights);

/// True if the choice is one operation, which route_forward() leaves in in.held if that is given.
bool is_one_operation(const RouterInput& in);

/// Counts the choices and adds this microbatch's losses. Only the views of `stats` that are present are updated.
void route_losses(Pass& pass, const RouterInput& in, const Route& route);

/// Adds the router's part to dx and computes the gradients of its weights, from the gates' gradients d_gates [T, S] and
/// the losses.
void route_backward(Pass& pass, const RouterInput& in, const RouterWeights& weights, const RouterWeights& gradients,
                    const Route& route, View d_gates, View dx);

}  // namespace moe
