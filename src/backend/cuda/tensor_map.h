#pragma once
/// Descriptions of matrices for the bulk copy engine of compute capability 9.0 (TMA).

#include <cuda.h>

#include "tensor/view.h"

namespace moe::cuda {

/// A bf16 matrix [rows, columns], or one per expert [E, rows, columns], for copies of boxes of 64 columns by `box_rows`
/// rows (at most 256) in the 128-byte swizzle. Rows are 16-byte aligned. Throws an Error that names `what` if the
/// engine does not accept it.
CUtensorMap tensor_map(const View& stored, int box_rows, const char* what);

}  // namespace moe::cuda
