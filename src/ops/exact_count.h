#pragma once
/// Counts of floating-point operations as integers.

#include <algorithm>
#include <cstdint>

namespace moe {

/// A count that was made in double, at most 2^53, up to which that is exact: sums of many operations stay in 64 bits.
inline int64_t exact_count(double flops) { return static_cast<int64_t>(std::min(flops, 9007199254740992.0)); }

}  // namespace moe
