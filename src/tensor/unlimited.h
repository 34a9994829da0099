#pragma once
/// Capacity of an arena whose memory does not end.

#include <cstddef>

namespace moe {

/// On a null device: more than any plan needs, and eight of them have addresses of 64 bits. An arena of this capacity
/// that overflows refuses the model and the microbatch, not the plan.
constexpr size_t kUnlimitedBytes = size_t{1} << 58;

}  // namespace moe
