#pragma once
/// Weights of types that no kernel reads (kernels/storage.h): widened to f32 by the table of storage types.

#include "backend/cpu/context.h"
#include "tensor/view.h"

namespace moe::cpu {

/// Whether kernels read this type.
constexpr bool is_native(DType type) { return type == DType::f32 || type == DType::bf16; }

/// What kernels call a type that they read.
inline Storage storage_of(DType type) {
  MOE_CHECK(is_native(type));
  return type == DType::bf16 ? Storage::bf16 : Storage::f32;
}

/// A matrix or vector that kernels read: itself, or all of it widened in a room that the caller's operation has until
/// it ends and that products do not use. Errors name what does not fit.
View readable(const Context& context, const View& view);

/// Row `row` of a matrix to f32.
void widen_row(const View& matrix, int64_t row, float* to);

}  // namespace moe::cpu
