#pragma once
/// What a machine can do at best, measured through a backend: the scale that other measurements are read on.

#include "ops/backend.h"
#include "ops/device.h"

namespace moe {

/// FLOP/s of an n x n x n product of `dtype` operands (f32 result): the best of `repeats`, after one that is not timed.
double measure_product(Backend& backend, Device& device, DType dtype, int64_t n, int repeats);

/// Bytes read and written per second when f32 tensors of `bytes` are copied: the best of `repeats`, after one.
double measure_copy(Backend& backend, Device& device, int64_t bytes, int repeats);

/// Standard normal values from a block of them that repeats: some processors are faster on constants.
void fill_randomly(Backend& backend, Device& device, const View& matrix, uint64_t stream);

/// Seconds since some fixed moment; the differences of two calls.
double wall_seconds();
/// Seconds that all threads of this process have computed.
double cpu_seconds();

}  // namespace moe
