#pragma once
/// Expert parallelism: the routed experts of every layer are divided among the ranks of a group. Each rank has E / W
/// experts that follow each other (W members, E experts). In training each rank has tokens of its own. It gathers the
/// tokens of the group, computes its experts for them, and each token's rank gets the sum. All sizes are known before,
/// so no count of rows visits the host. In inference all ranks have the same tokens, and add up their outputs.

#include "nn/pass.h"
#include "nn/routers/routing_types.h"
#include "ops/communicator.h"

namespace moe {

struct ExpertRanks {
  Communicator* communicator = nullptr;  ///< null: this rank has all experts
  RankGroup group = {};

  explicit operator bool() const { return communicator != nullptr; }
  int64_t size() const { return group.count; }
  int64_t member() const { return group.member(communicator->rank()); }
};

/// The tokens of all ranks of a group, W T, and the rows of this rank's experts among them.
struct GroupTokens {
  View x;            ///< [W T, D]; absent if the pass rebuilds it
  Route route = {};  ///< its choice has the gates of all tokens, its rows are those of this rank's experts
};

/// Gathers the tokens x [T, D] and their choice. `experts` is the number of experts of a rank.
GroupTokens gather_tokens(Pass& pass, const ExpertRanks& ranks, const RouterConfig& router, int64_t row_length,
                          const Route& own, View x);

/// [W T, ...]: the x of all ranks of the group, in `arena`.
View gathered(const ExpertRanks& ranks, Arena& arena, std::string_view name, View x);

/// The rows of this rank's experts among tokens that all ranks have: `own` with its plan made again, in the same
/// memory.
Route route_to_own_experts(Pass& pass, const ExpertRanks& ranks, int64_t experts, const Route& own);

}  // namespace moe
