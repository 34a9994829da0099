#pragma once
/// The capacity of an arena without a memory limit.

#include <cstddef>

namespace moe {

/// For a null device: more than any plan needs, and small enough that eight of them have 64-bit addresses. If an arena
/// of this capacity overflows, the model or the microbatch is too large, not the plan.
constexpr size_t kUnlimitedBytes = size_t{1} << 58;

}  // namespace moe
