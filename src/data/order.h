#pragma once
/// Orders that are pure functions of a seed.

#include <cstdint>
#include <vector>

namespace moe {

/// A permutation of 0 .. count - 1. Each one is equally likely. It depends only on (seed, stream).
std::vector<int64_t> shuffled(int64_t count, uint64_t seed, uint64_t stream);

}  // namespace moe
