#pragma once
/// Orders that are pure functions of a seed.

#include <cstdint>
#include <vector>

namespace moe {

/// A permutation of 0 .. count - 1, each equally likely, that depends on (seed, stream) alone.
std::vector<int64_t> shuffled(int64_t count, uint64_t seed, uint64_t stream);

}  // namespace moe
