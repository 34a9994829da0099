#pragma once
/// A stable sort of small integers together with their places, with CUB.

#include "backend/cuda/context.h"

namespace moe::cuda {

/// Keys in rising order and, beside each, its original place. Equal keys keep their order.
struct Sorted {
  const int* keys;
  const int* places;
};

/// The most keys that surely fit a workspace of this size: 16 bytes each, and up to 9 for the sort itself.
constexpr int64_t most_sorted(size_t workspace_bytes) {
  return (static_cast<int64_t>(workspace_bytes) - (int64_t{1} << 20)) / 25;
}

/// Sorts `count` keys in [0, limit], which are in `carver`'s memory. The result is in the workspace too.
Sorted sort_by_key(Context& context, Carver& carver, int* keys, int64_t count, int64_t limit);

}  // namespace moe::cuda
