#pragma once
/// Sums over ranks, always added in the order of the ranks: this is why a result has the same bits every time.

#include <vector>

#include "tensor/view.h"

namespace moe {

/// A part of a tensor, as [begin, begin + count) of its elements.
struct Slice {
  int64_t begin = 0, count = 0;
};

/// The part of `elements` elements that `rank` of `size` ranks adds up. All parts together are all elements.
Slice slice_of(int64_t elements, int rank, int size);

/// Refuses a type that ordered_sum() cannot add.
void check_summable(DType type);

/// to[i] = parts[0][i] + parts[1][i] + ... of `count` elements of `type` (f32, f64, i32; bf16 is added in f32 and
/// rounded once). `to` may be one of the
/// parts.
void ordered_sum(DType type, void* to, const std::vector<const void*>& parts, int64_t count);

}  // namespace moe
