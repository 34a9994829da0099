#include "nn/moe.h"

#include "nn/experts_operation.h"
#include "nn/routers/router.h"

namespace moe {
namespace {

View flat(const View& slots) { return slots.reshaped({slots.elements()}); }

// The number of rows that belong to an expert, offsets[E].
View row_count(const Route& route) { return route.offsets.rows(route.offsets.size(0) - 1, 1); }

/// The rows of the experts' products with their adapters. Gate and up take tokens, whose rows they pick.
ExpertRowsOf token_rows(const Route& route) { return {.offsets = route.offsets, .rows = route.row_token}; }

/// The down projection takes the experts' own rows, of which each choice of a token has one.
ExpertRowsOf own_rows(const Route& route) {
  return {.offsets = route.offsets, .keys = route.row_slot, .keys_per_token = route.choice.gates.size(1)};
}

void experts_forward(Pass& pass, const MoeConfig& config, const MoeWeights& weights, const Route& route,
                     MoeSaved& saved, View x, View rows) {
  const Arena::Frame frame(pass.scratch);
  const View activated = pass.temporary("experts.activated", {rows.size(0), config.width});
  const ExpertRows<SwiGlu> fused =
      experts_operation(weights.gate_up, weights.down, route, x, saved.gate_up, activated, rows);
  if (!weights.gate_up.adapter && !weights.down.adapter) return pass.backend.run(fused);
  saved.gate_up_low = expert_low(pass, weights.gate_up.adapter, token_rows(route), x);
  adapted_product(pass, weights.gate_up.adapter, saved.gate_up_low, fused.first, fused.activation);
  saved.down_low = expert_low(pass, weights.down.adapter, own_rows(route), activated);
  adapted_product(pass, weights.down.adapter, saved.down_low, fused.last);
}

/// The parts of `op` in turn, and after each the adapter's.
void adapted_experts_backward(Pass& pass, const MoeWeights& weights, const MoeWeights& gradients, const MoeSaved& saved,
                              View x, View dy, const ExpertsBackward& op) {
  const Route& route = saved.route;
  const ExpertRows<SwiGluBackward>& rows = op.rows;
  const View &activated = rows.first.c, &d_gate_up = rows.activation.d_gate_up;
  ExpertRowsOf down_rows = own_rows(route);
  down_rows.rows = route.row_token;  // of dy
  const View d_down_low = adapted_input_gradient(pass, weights.down.adapter, down_rows, rows.first);
  pass.backend.run(rows.activation);
  adapter_weight_gradient(pass, weights.down.adapter, gradients.down.adapter, own_rows(route), dy, route.row_token,
                          activated, d_down_low, saved.down_low, pass.accumulate_gradients);
  if (op.down.c) pass.backend.run(op.down);
  if (op.gate_up.c) pass.backend.run(op.gate_up);
  const View d_gate_up_low = adapted_input_gradient(pass, weights.gate_up.adapter,
                                                    {.offsets = route.offsets, .keys = route.row_token}, rows.last);
  adapter_weight_gradient(pass, weights.gate_up.adapter, gradients.gate_up.adapter, token_rows(route), d_gate_up, {}, x,
                          d_gate_up_low, saved.gate_up_low, pass.accumulate_gradients);
}

// The gradients of the experts' weights and gates. The gradient of each row's input stays in d_rows.
void experts_backward(Pass& pass, const MoeConfig& config, const MoeWeights& weights, const MoeWeights& gradients,
                      const Route& route, const MoeSaved& saved, View x, View dy, View d_gates, View d_rows) {
  const Arena::Frame frame(pass.scratch);
  const View activated = pass.temporary("experts.d_activated", {d_rows.size(0), config.width});
  // In place: gate_up becomes its gradient, the activation's gradient becomes the gated activation.
  const ExpertRows<SwiGluBackward> rows{
      .first = expert_input_gradient(weights.down, dy, route.row_token, route.offsets, activated),
      .activation = {.gate_up = saved.gate_up,
                     .scale = flat(route.choice.gates),
                     .scale_index = route.row_slot,
                     .row_count = row_count(route),
                     .dy = activated,
                     .d_gate_up = saved.gate_up,
                     .y = activated,
                     .d_scale = flat(d_gates)},
      .last = expert_input_gradient(weights.gate_up, saved.gate_up, {}, route.offsets, d_rows)};
  const GroupedGemmReduce down =
      expert_weight_gradient(pass, gradients.down, dy, route.row_token, activated, {}, route.offsets);
  const GroupedGemmReduce gate_up =
      expert_weight_gradient(pass, gradients.gate_up, saved.gate_up, {}, x, route.row_token, route.offsets);
  const ExpertsBackward op{.rows = rows, .down = down, .gate_up = gate_up, .slot_row = route.slot_row};
  if (weights.gate_up.adapter || weights.down.adapter) {
    adapted_experts_backward(pass, weights, gradients, saved, x, dy, op);
  } else {
    pass.backend.run(op);
  }
  some_experts_weight_gradient(pass, gradients.down, down);
  some_experts_weight_gradient(pass, gradients.gate_up, gate_up);
}

/// 0, 1, 2 ...: the rows of a plan in which every token chooses the only expert. `first` is the choice, [T, 1] zeros.
View token_index(Pass& pass, int64_t count, View& first) {
  const auto table = [&](const char* name, Shape shape) { return pass.scratch.push(name, DType::i32, shape); };
  first = table("shared.choice", {count, 1});
  const View index = table("shared.index", {count});
  pass.backend.run(Fill{.x = first, .value = 0});
  pass.backend.run(RoutePlan{.ids = first,
                             .offsets = table("shared.offsets", {2}),
                             .row_slot = index,
                             .row_token = table("shared.token", {count}),
                             .slot_row = table("shared.row", {count, 1})});
  return index;
}

void shared_forward(Pass& pass, const MoeWeights& weights, View x, View y, MoeSaved& saved) {
  if (!weights.shared_gate) {
    saved.shared_gate_up = ffn_forward(pass, weights.shared, x, y);
    return;
  }
  saved.shared_scale = pass.saved.push("shared.scale", pass.stat(), {x.size(0), 1});
  pass.backend.run(RouterScores{
      .x = x, .weight = weights.shared_gate.weight, .scoring = Scoring::sigmoid, .scores = saved.shared_scale});
  const Arena::Frame frame(pass.scratch);
  View choice;
  const View index = token_index(pass, x.size(0), choice);
  saved.shared_gate_up = ffn_forward(pass, weights.shared, x, y, {.scale = flat(saved.shared_scale), .index = index});
}

/// dx is overwritten.
void shared_backward(Pass& pass, const MoeWeights& weights, const MoeWeights& gradients, const LayerContext& context,
                     const MoeSaved& saved, View x, View dy, View dx) {
  if (!weights.shared_gate) {
    return ffn_backward(pass, weights.shared, gradients.shared, saved.shared_gate_up, x, dy, dx);
  }
  const Arena::Frame frame(pass.scratch);
  View choice;
  const View index = token_index(pass, x.size(0), choice);
  const View d_scale = pass.scratch.push("shared.d_scale", pass.stat(), saved.shared_scale.shape);
  const View d_logits = pass.scratch.push("shared.d_logits", pass.stat(), saved.shared_scale.shape);
  ffn_backward(pass, weights.shared, gradients.shared, saved.shared_gate_up, x, dy, dx,
               {.scale = flat(saved.shared_scale), .index = index}, flat(d_scale));
  pass.backend.run(RouterBackward{.scores = saved.shared_scale,
                                  .ids = choice,
                                  .d_gates = d_scale,
                                  .group = context.tokens.valid,
                                  .scoring = Scoring::sigmoid,
                                  .d_logits = d_logits});
  linear_weight_gradient(pass, gradients.shared_gate, d_logits, x);
  linear_input_gradient(pass, weights.shared_gate, d_logits, dx, true);
}

/// The experts' part of forward, if other ranks have tokens and experts too. y has the output of the shared experts, if
/// there are any.
void group_forward(Pass& pass, const MoeConfig& config, const MoeWeights& weights, const LayerContext& context,
                   MoeSaved& saved, View x, View residual, View y) {
  const ExpertRanks& ranks = config.ranks;
  const Arena::Frame frame(pass.scratch);
  saved.group = gather_tokens(pass, ranks, config.router, context.tokens.row_length, saved.route, x);
  const Route& route = saved.group.route;
  const int64_t row_total = route.row_slot.size(0);
  saved.gate_up = pass.save("experts.gate_up", {row_total, 2 * config.width});
  const View partial = pass.temporary("experts.partial", saved.group.x.shape);
  {
    const Arena::Frame rows_frame(pass.scratch);
    const View rows = pass.temporary("experts.rows", {row_total, config.hidden});
    experts_forward(pass, config, weights, route, saved, saved.group.x, rows);
    pass.backend.run(RowsCombine{.rows = rows, .slot_row = route.slot_row, .y = partial});
  }
  const View own = weights.shared ? pass.temporary("experts.own", y.shape) : y;
  ranks.communicator->reduce_scatter(partial, own, ranks.group);
  if (weights.shared) pass.backend.run(Add{.x = own, .y = y});
  pass.backend.run(Add{.x = residual, .y = y});
  saved.group.x = pass.unless_rebuilt(Rebuild::all, saved.group.x);
}

/// The experts' part of backward: d_gates [T, S], and `d_own` [T, D], the gradient of this rank's tokens.
void group_backward(Pass& pass, const MoeConfig& config, const MoeWeights& weights, const MoeWeights& gradients,
                    const MoeSaved& saved, View x, View dy, View d_gates, View d_own) {
  const ExpertRanks& ranks = config.ranks;
  const Arena::Frame frame(pass.scratch);
  const Route& route = saved.group.route;
  const View tokens = saved.group.x ? saved.group.x : gathered(ranks, pass.scratch, "experts.tokens again", x);
  const View d_tokens = gathered(ranks, pass.scratch, "experts.d_tokens", dy);
  // A slot has its gradient from the rank that has the expert; the others add 0.
  const View d_slots = pass.scratch.push("experts.d_gates", pass.stat(), route.choice.gates.shape);
  pass.backend.run(Fill{.x = d_slots, .value = 0});
  const View d_rows = pass.temporary("experts.d_rows", {route.row_slot.size(0), config.hidden});
  experts_backward(pass, config, weights, gradients, route, saved, tokens, d_tokens, d_slots, d_rows);
  ranks.communicator->reduce_scatter(d_slots, d_gates, ranks.group);
  pass.backend.run(RowsCombine{.rows = d_rows, .slot_row = route.slot_row, .y = d_tokens});
  ranks.communicator->reduce_scatter(d_tokens, d_own, ranks.group);
}

}  // namespace

MoeSaved moe_forward(Pass& pass, const MoeConfig& config, const MoeWeights& weights, const LayerContext& context,
                     View x, View residual, View y) {
  const RouterInput router{config.router, config.balance, context, x};
  MoeSaved saved{.route = route_forward(pass, router, weights.router), .gate_up = {}, .shared_gate_up = {}};
  if (config.ranks && context.mode.training) {
    route_losses(pass, router, saved.route);
    if (weights.shared) shared_forward(pass, weights, x, y, saved);
    group_forward(pass, config, weights, context, saved, x, residual, y);
    return saved;
  }
  const int64_t row_total = saved.route.row_slot.size(0);
  saved.gate_up = pass.save("experts.gate_up", {row_total, 2 * config.width});
  route_losses(pass, router, saved.route);
  if (config.ranks) saved.route = route_to_own_experts(pass, config.ranks, config.router.experts, saved.route);
  // Of ranks that add up their outputs, the first alone adds what all of them have.
  const bool adds_all = !config.ranks || config.ranks.member() == 0;
  const bool shared = weights.shared && adds_all;
  if (shared) shared_forward(pass, weights, x, y, saved);
  const Arena::Frame frame(pass.scratch);
  const View rows = pass.temporary("experts.rows", {row_total, config.hidden});
  experts_forward(pass, config, weights, saved.route, saved, x, rows);
  pass.backend.run(RowsCombine{.rows = rows,
                               .slot_row = saved.route.slot_row,
                               .residual = adds_all ? residual : View{},
                               .y = y,
                               .accumulate = shared});
  if (config.ranks) config.ranks.communicator->all_reduce(y, config.ranks.group);
  return saved;
}

void moe_backward(Pass& pass, const MoeConfig& config, const MoeWeights& weights, const MoeWeights& gradients,
                  const LayerContext& context, const MoeSaved& saved, View x, View dy, View dx) {
  const Arena::Frame frame(pass.scratch);
  const RouterInput router{config.router, config.balance, context, x};
  const View d_gates = pass.scratch.push("router.d_gates", pass.stat(), saved.route.choice.gates.shape);
  if (config.ranks) {
    const View d_own = weights.shared ? pass.temporary("experts.d_own", dx.shape) : dx;
    group_backward(pass, config, weights, gradients, saved, x, dy, d_gates, d_own);
    if (weights.shared) {
      shared_backward(pass, weights, gradients, context, saved, x, dy, dx);
      pass.backend.run(Add{.x = d_own, .y = dx});
    }
    return route_backward(pass, router, weights.router, gradients.router, saved.route, d_gates, dx);
  }
  const View d_rows = pass.temporary("experts.d_rows", {saved.route.row_slot.size(0), config.hidden});
  experts_backward(pass, config, weights, gradients, saved.route, saved, x, dy, d_gates, d_rows);
  if (weights.shared) shared_backward(pass, weights, gradients, context, saved, x, dy, dx);
  pass.backend.run(RowsCombine{
      .rows = d_rows, .slot_row = saved.route.slot_row, .y = dx, .accumulate = static_cast<bool>(weights.shared)});
  route_backward(pass, router, weights.router, gradients.router, saved.route, d_gates, dx);
}

}  // namespace moe
