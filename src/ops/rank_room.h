#pragma once
/// The memory that a GPU keeps for sums over ranks.

#include <cstdint>

namespace moe {

/// Parts of gradients that come from the other ranks of the machine, all together, at most. A larger sum takes several
/// rounds.
constexpr int64_t kRankRoomBytes = int64_t{192} << 20;
/// How far the ranks are, which they tell each other there: a page of its own, so that other processes can map it.
constexpr int64_t kRankFlagBytes = int64_t{2} << 20;

}  // namespace moe
