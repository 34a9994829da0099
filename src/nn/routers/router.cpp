#include "nn/routers/router.h"

#include <algorithm>

#include "nn/routers/method.h"
#include "nn/routers/registry.h"

namespace moe {
namespace {

const RouterFunctions& functions(const RouterConfig& config) { return routing_row(config.method).functions(); }

/// Thinning in training, and capacity if the tokens are in rows (with a cache nothing is dropped).
void drop(Pass& pass, const RouterInput& in, const Route& route) {
  const RouterConfig& config = in.config;
  const Arena::Frame frame(pass.scratch);
  const int64_t factor = in.context.mode.training ? config.capacity : config.capacity_eval;
  View dropped = in.context.stats.dropped;
  if (!dropped) {
    dropped = pass.scratch.push("router.dropped", DType::i32, {1});
    pass.backend.run(Fill{.x = dropped, .value = 0});
  }
  pass.backend.run(RouterDrop{.ids = route.choice.ids,
                              .gates = route.choice.gates,
                              .group = in.context.tokens.valid,
                              .experts = config.experts,
                              .threshold = in.context.mode.training ? config.threshold : 0,
                              .draws = in.context.mode.draws("second_expert", in.context.layer),
                              .factor = in.context.tokens.row_length > 0 ? factor : 0,
                              .row_length = std::max<int64_t>(in.context.tokens.row_length, 1),
                              .kept = route.choice.kept,
                              .dropped = dropped});
}

/// The sums for the balance losses: those of the step if they were collected, else those of this microbatch's groups.
BalanceSums balance_sums(Pass& pass, const RouterInput& in, const Route& route) {
  const BalanceConfig& balance = in.balance;
  if (!balance.grouped()) return {};
  if (balance.scope == BalanceScope::step) return in.context.stats.sums;
  const int64_t groups = in.context.groups.group_tokens.size(0), experts = in.config.experts;
  const auto zeros = [&](bool wanted, DType dtype, int64_t columns) {
    if (!wanted) return View{};
    const View view = pass.scratch.push("router.sums", dtype, {groups, columns});
    pass.backend.run(Fill{.x = view, .value = 0});
    return view;
  };
  const bool counted = balance.alpha_expert != 0 || balance.alpha_device != 0 || balance.stable_balance != 0;
  const BalanceSums sums{.counts = zeros(counted, DType::i32, experts),
                         .reach = zeros(balance.alpha_communication != 0, DType::i32, in.config.limit.groups),
                         .importance = zeros(balance.importance != 0, pass.stat(), experts),
                         .load = zeros(balance.load != 0, pass.stat(), experts)};
  functions(in.config).sum(pass, in, route, in.context.groups.group, sums);
  return sums;
}

}  // namespace

void visit_router(const RouterConfig& config, const RouterSizes& sizes, RouterWeights& weights,
                  const AddParameter& add) {
  functions(config).parameters(config, sizes, weights, add);
}

Route route_forward(Pass& pass, const RouterInput& in, const RouterWeights& weights) {
  const RouteChoice& choice = in.context.choice;
  const int64_t count = in.context.tokens.count(), slots = in.config.slots();
  const int64_t rows = in.config.rows(count, in.context.tokens.row_length);
  Route route{.choice = choice,
              .offsets = pass.saved.push("router.offsets", DType::i32, {in.config.experts + 1}),
              .row_slot = pass.saved.push("router.row_slot", DType::i32, {rows}),
              .row_token = pass.saved.push("router.row_token", DType::i32, {rows}),
              .slot_row = pass.saved.push("router.slot_row", DType::i32, {count, slots})};
  functions(in.config).choose(pass, in, weights, route);
  if (choice.kept && !in.context.replay) drop(pass, in, route);
  if (!route.planned) pass.backend.run(plan_of(route));
  return route;
}

bool is_one_operation(const RouterInput& in) {
  return functions(in.config).one_operation && !in.context.choice.kept && !in.context.replay;
}

void route_losses(Pass& pass, const RouterInput& in, const Route& route) {
  const LayerStats& stats = in.context.stats;
  if (stats.counts) {
    pass.backend.run(RouterCounts{
        .ids = route.choice.ids, .group = stats.group, .experts = in.config.experts, .counts = stats.counts});
  }
  const Arena::Frame frame(pass.scratch);
  if (stats.collect) {
    functions(in.config).sum(pass, in, route, in.context.tokens.valid, stats.sums);
  } else if (stats.losses) {
    functions(in.config).losses(pass, in, route, balance_sums(pass, in, route));
  }
}

void route_backward(Pass& pass, const RouterInput& in, const RouterWeights& weights, const RouterWeights& gradients,
                    const Route& route, View d_gates, View dx) {
  const Arena::Frame frame(pass.scratch);
  functions(in.config).backward(pass, in, weights, gradients, route, balance_sums(pass, in, route), d_gates, dx);
}

}  // namespace moe
