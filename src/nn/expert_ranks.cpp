#include "nn/expert_ranks.h"

#include <algorithm>

#include "nn/routers/method.h"

namespace moe {
namespace {

Shape of_group(const ExpertRanks& ranks, const Shape& shape) { return shape.with_first(ranks.size() * shape[0]); }

void plan(Pass& pass, const Route& route, View ids, int64_t first) {
  RoutePlan op = plan_of(route);
  op.ids = ids;
  op.first = first;
  pass.backend.run(op);
}

}  // namespace

View gathered(const ExpertRanks& ranks, Arena& arena, std::string_view name, View x) {
  const View all = arena.push(name, x.dtype, of_group(ranks, x.shape));
  ranks.communicator->all_gather(x, all, ranks.group);
  return all;
}

GroupTokens gather_tokens(Pass& pass, const ExpertRanks& ranks, const RouterConfig& router, int64_t row_length,
                          const Route& own, View x) {
  const int64_t experts = router.experts / ranks.size(), tokens = x.size(0), slots = router.slots();
  // A token's choices differ, so that it has at most as many rows here as this rank has experts.
  const int64_t rows = ranks.size() * std::min(router.rows(tokens, row_length), tokens * std::min(slots, experts));
  GroupTokens group{.x = gathered(ranks, pass.rebuilds(Rebuild::all) ? pass.scratch : pass.saved, "experts.tokens", x)};
  group.route.choice.gates = gathered(ranks, pass.saved, "experts.gates", own.choice.gates);
  group.route.offsets = pass.saved.push("experts.offsets", DType::i32, {experts + 1});
  group.route.row_slot = pass.saved.push("experts.row_slot", DType::i32, {rows});
  group.route.row_token = pass.saved.push("experts.row_token", DType::i32, {rows});
  group.route.slot_row = pass.saved.push("experts.slot_row", DType::i32, {ranks.size() * tokens, slots});
  const Arena::Frame frame(pass.scratch);
  const View ids = gathered(ranks, pass.scratch, "experts.ids", own.choice.used());
  plan(pass, group.route, ids, ranks.member() * experts);
  return group;
}

Route route_to_own_experts(Pass& pass, const ExpertRanks& ranks, int64_t experts, const Route& own) {
  Route route = own;
  route.offsets = own.offsets.rows(0, experts / ranks.size() + 1);
  plan(pass, route, own.choice.used(), ranks.member() * (experts / ranks.size()));
  return route;
}

}  // namespace moe
