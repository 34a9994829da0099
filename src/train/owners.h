#pragma once
/// Which rank keeps the optimiser's state of a parameter (ZeRO-1, by whole parameters).

#include <vector>

#include "model/parameters.h"

namespace moe {

/// The owner of each parameter of `table`: the largest trained one goes first, each to the rank that has the least so
/// far. Parameters that are not trained belong to rank 0. A pure function, so all ranks have the same owners.
std::vector<int> owners_of(const std::vector<Parameter>& table, int ranks);

/// True where the owner is `rank`.
std::vector<bool> owned_by(const std::vector<int>& owners, int rank);

}  // namespace moe
