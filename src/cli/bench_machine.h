#pragma once
/// What a machine can do at best, measured through a backend: the scale that other measurements are read on.

#include <vector>

#include "base/thread_pool.h"
#include "ops/backend.h"
#include "ops/device.h"

namespace moe {

/// FLOP/s of an n x n x n product of `dtype` operands (f32 result): the best of `repeats`, after one that is not timed.
double measure_product(Backend& backend, Device& device, DType dtype, int64_t n, int repeats);

/// Bytes read and written per second when f32 tensors of `bytes` are copied: the best of `repeats`, after one.
double measure_copy(Backend& backend, Device& device, int64_t bytes, int repeats);

/// Bytes read per second when the squares of an f32 tensor of `bytes` are summed: the best of `repeats`, after one.
double measure_read(Backend& backend, Device& device, int64_t bytes, int repeats);

/// FLOP/s of multiplications and additions that stay in the processor's registers, on every thread of the pool
/// together: the best of `repeats`. No product can be faster. `pairs`: of bf16 numbers by pairs, as products of bf16
/// are computed where the processor has an instruction for it; 0 where they are not. For this processor only.
double measure_multiply_add(ThreadPool& pool, bool pairs, int repeats);

/// Standard normal values from a block of them that repeats: some processors are faster on constants.
void fill_randomly(Backend& backend, Device& device, const View& matrix, uint64_t stream);

/// The middle value, or the mean of the two middle ones; of one value at least.
double median(std::vector<double> values);

/// Seconds since some fixed moment; the differences of two calls.
double wall_seconds();
/// Seconds that all threads of this process have computed.
double cpu_seconds();
/// The most memory that this process has had so far.
int64_t peak_rss_bytes();

}  // namespace moe
