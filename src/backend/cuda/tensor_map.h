#pragma once
/// Matrices as the bulk copy engine of compute capability 9.0 (TMA) sees them.

#include <cuda.h>

#include "tensor/view.h"

namespace moe::cuda {

/// A bf16 matrix [rows, columns], or one per expert [E, rows, columns], for copies of boxes of 64 columns by `box_rows`
/// rows (at most 256) in the 128-byte swizzle. Rows are 16-byte aligned. Throws Error, which names `what`, when the
/// engine does not take it.
CUtensorMap tensor_map(const View& stored, int box_rows, const char* what);

}  // namespace moe::cuda
