#pragma once
/// The best that a machine can do, measured through a backend. Other measurements are compared with it.

#include <vector>

#include "base/thread_pool.h"
#include "ops/backend.h"
#include "ops/device.h"

namespace moe {

/// FLOP/s of an n x n x n product of `dtype` operands (f32 result): the best of `repeats`, after one untimed run.
double measure_product(Backend& backend, Device& device, DType dtype, int64_t n, int repeats);

/// Bytes read and written per second while f32 tensors of `bytes` are copied: the best of `repeats`, after one untimed
/// run.
double measure_copy(Backend& backend, Device& device, int64_t bytes, int repeats);

/// Bytes read per second while the squares of an f32 tensor of `bytes` are summed: the best of `repeats`, after one
/// untimed run.
double measure_read(Backend& backend, Device& device, int64_t bytes, int repeats);

/// FLOP/s of multiplications and additions that stay in the processor's registers, on all threads of the pool together:
/// the best of `repeats`. No product can be faster. `pairs`: the rate for pairs of bf16 numbers, which products of bf16
/// use if the processor has an instruction for them; 0 if it has none. For the CPU only.
double measure_multiply_add(ThreadPool& pool, bool pairs, int repeats);

/// Standard normal values that repeat in blocks. Some processors are faster on constants.
void fill_randomly(Backend& backend, Device& device, const View& matrix, uint64_t stream);

/// The middle value, or the mean of the two middle values. Needs at least one value.
double median(std::vector<double> values);

/// Seconds since a fixed moment. Use differences of two calls.
double wall_seconds();
/// Seconds of processor time of all threads of this process.
double cpu_seconds();
/// The largest amount of memory that this process has used so far.
int64_t peak_rss_bytes();

}  // namespace moe
