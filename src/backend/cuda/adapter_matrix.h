#pragma once
/// The matrices of adapters of several slices as one (ops/expert_rows.h).

#include "backend/cuda/context.h"
#include "ops/adapted_product.h"

namespace moe::cuda {

/// op.b of `count` experts from `first` on, for one product with all of op.low. Of several slices: in memory of
/// `carver`, where a row has its own numbers in its slice's columns and zeros in the others. bf16 in whole chunks.
View as_one_matrix(const Context& context, Carver& carver, const AdaptedProduct& op, int64_t first, int64_t count);

}  // namespace moe::cuda
