#pragma once
/// Runs of elements of the plain storage types from and to f32 (tensor/dtype.h). Addresses need no alignment.

#include <cstdint>

namespace moe {

void f64_to_floats(const void* from, float* to, int64_t elements);
void floats_to_f64(const float* from, void* to, int64_t elements);
void f32_to_floats(const void* from, float* to, int64_t elements);
void floats_to_f32(const float* from, void* to, int64_t elements);
void bf16_to_floats(const void* from, float* to, int64_t elements);
void floats_to_bf16(const float* from, void* to, int64_t elements);
void f16_to_floats(const void* from, float* to, int64_t elements);
void floats_to_f16(const float* from, void* to, int64_t elements);

}  // namespace moe
