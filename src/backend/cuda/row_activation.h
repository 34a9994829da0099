#pragma once
/// SwiGLU at the end of a product by experts' rows (ops/expert_rows.h), where the result still is in registers.

#include <cstdint>

#include <cuda_bf16.h>

namespace moe::cuda {

/// What a product's tile does beside its result, if anything.
enum class Ending {
  none,
  swiglu  ///< the product is [gate | up]: stores it, and y
};

/// The activation's operands; rows of y are whole aligned 16-byte chunks.
struct RowActivation {
  const float* scale;  ///< null: 1
  const int* scale_index;
  __nv_bfloat16* y;
  int64_t y_step;
};

}  // namespace moe::cuda
