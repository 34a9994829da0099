#pragma once
/// Searches for numbers that are not finite.

#include <cstdint>

#include "tensor/dtype.h"

namespace moe {

/// The index of the first of `count` elements that is NaN or infinite; -1 if there is none, and for types that are not
/// floats. Blocks are whole.
int64_t first_not_finite(DType dtype, const void* data, int64_t count);

}  // namespace moe
