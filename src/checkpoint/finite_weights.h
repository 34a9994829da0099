#pragma once
/// Weights are finite: a model with others computes no numbers, or wrong ones.

#include <cstdint>
#include <string>

#include "tensor/dtype.h"

namespace moe {

/// Throws an Error that names the file, the tensor and the element, if one of `count` elements is NaN or infinite.
/// `first` is the number of the first of them in the tensor.
void refuse_not_finite(const std::string& file, const std::string& tensor, int64_t first, DType dtype, const void* data,
                       int64_t count);

/// The same for finite `values` that are too large for `dtype`, the type of `converted`.
void refuse_overflow(const std::string& file, const std::string& tensor, int64_t first, const float* values,
                     DType dtype, const void* converted, int64_t count);

}  // namespace moe
