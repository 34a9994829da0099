#pragma once
/// Rotary positions and the append to a cache as one fused operation.

#include "ops/attention.h"
#include "ops/rows.h"

namespace moe {

/// Rotates queries and keys, and appends these keys and values, with the bits of both in turn: append.k is the last
/// columns of rope.x.
struct RotatedAppend {
  Rope rope;
  KvAppend append;

  static constexpr const char* name = "rotated_append";
};

/// Checks both parts, and that they fit together.
void check(const RotatedAppend& op);

}  // namespace moe
