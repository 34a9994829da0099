#pragma once
/// Which rank keeps the optimiser's state of a parameter (ZeRO-1, by whole parameters).

#include <vector>

#include "train/rank_layout.h"

namespace moe {

/// The owner of each parameter of `table`, which is that of the layout's rank: the largest trained one goes first, each
/// to the rank of the stage that has the least so far. If the ranks divide a parameter, the owner is one of those that
/// have this rank's part. Of a parameter that is not trained, and of a tied head, which has no state, it is the first
/// rank of the stage that has it. A pure function, so all ranks have the same owners.
std::vector<int> owners_of(const std::vector<Parameter>& table, const RankLayout& layout);

/// True where the layout's rank is the owner and has the state.
std::vector<bool> owned_by(const std::vector<int>& owners, const std::vector<Parameter>& table,
                           const RankLayout& layout);

/// The two ranks that send each other the gradient and the weights of a matrix that is embedding and head, if stages
/// train it: its owner in the first stage, and the first rank of the last stage.
struct TiedRanks {
  int embedding, head;
};

}  // namespace moe
