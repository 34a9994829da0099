#pragma once
/// The types that this backend's matrices may have: two, which one bit tells apart.

#include "tensor/view.h"

namespace moe::cuda {

inline bool is_bf16(const View& view) {
  MOE_CHECK(view.dtype == DType::f32 || view.dtype == DType::bf16);
  return view.dtype == DType::bf16;
}

}  // namespace moe::cuda
