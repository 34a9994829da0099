#pragma once
/// Rotary positions, the append to a cache and attention over it as one fused operation.

#include "ops/attention.h"
#include "ops/rows.h"

namespace moe {

/// Rotates queries and keys, appends these keys and values, and attends, with the bits of all three in turn. rope.x has
/// attention.q as its first columns and append.k as its last ones; append and attention have the same cache, sequences,
/// positions and pages.
struct RotatedAttention {
  Rope rope;
  KvAppend append;
  CachedAttention attention;

  static constexpr const char* name = "rotated_attention";
};

/// Checks the three parts, and that they fit together.
void check(const RotatedAttention& op);

}  // namespace moe
