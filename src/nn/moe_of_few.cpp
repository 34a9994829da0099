#include "nn/moe_of_few.h"

#include "nn/experts_operation.h"
#include "nn/linear_product.h"
#include "nn/routers/router.h"
#include "ops/overlap.h"

namespace moe {
namespace {

void run_as_one(Pass& pass, const MoeConfig& config, const MoeWeights& weights, const RmsNorm& norm,
                const RouteTokens& choice, const MoeSaved& saved, View residual, View y) {
  const Arena::Frame frame(pass.scratch);
  const View x = norm.y;
  const int64_t row_total = saved.gate_up.size(0);
  const View shared_activated = pass.temporary("ffn.activated", {x.size(0), weights.shared.width()});
  const View activated = pass.temporary("experts.activated", {row_total, config.width});
  const View rows = pass.temporary("experts.rows", {row_total, config.hidden});
  run(pass.backend,
      RoutedFfn{
          .norm = norm,
          .route = choice,
          .shared = {.product = linear_product(weights.shared.gate_up, x, saved.shared_gate_up),
                     .activation = {.gate_up = saved.shared_gate_up, .y = shared_activated}},
          .shared_down = linear_product(weights.shared.down, shared_activated, y),
          .experts = experts_operation(weights.gate_up, weights.down, saved.route, x, saved.gate_up, activated, rows),
          .combine = {
              .rows = rows, .slot_row = saved.route.slot_row, .residual = residual, .y = y, .accumulate = true}});
}

}  // namespace

bool may_be_one_operation(const MoeWeights& weights, const LayerContext& context) {
  // Whatever the number of tokens: the memory of a pass is planned by the one with the most.
  const LayerStats& stats = context.stats;
  if (context.cache == nullptr || context.mode.training || context.replay) return false;
  if (stats.counts || stats.collect || stats.losses) return false;
  if (!weights.shared || weights.shared_gate || weights.gate_up.adapter || weights.down.adapter) return false;
  return is_plain(weights.shared.gate_up) && is_plain(weights.shared.down);
}

MoeSaved moe_forward(Pass& pass, const MoeConfig& config, const MoeWeights& weights, const LayerContext& context,
                     const RmsNorm& norm, View residual, View y) {
  const int64_t count = norm.y.size(0), row_total = config.router.rows(count, context.tokens.row_length);
  std::optional<RouteTokens> choice;
  const RouterInput router{config.router, config.balance, context, norm.y, &choice};
  if (!is_one_operation(router)) {
    pass.backend.run(norm);
    return moe_forward(pass, config, weights, context, norm.y, residual, y);
  }
  const MoeSaved saved{.route = route_forward(pass, router, weights.router),
                       .gate_up = pass.save("experts.gate_up", {row_total, 2 * config.width}),
                       .shared_gate_up = pass.save("ffn.gate_up", {count, 2 * weights.shared.width()})};
  run_as_one(pass, config, weights, norm, *choice, saved, residual, y);
  return saved;
}

}  // namespace moe
