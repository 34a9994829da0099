#pragma once
/// The best that a machine can do, measured through a backend. Other measurements are compared with it.

#include <cstdint>
#include <functional>

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

/// Operations per second of work that stays in the processor's registers, on all threads of the pool together: the best
/// of `repeats`. `work()` returns the number of operations that it did. Where it multiplies and adds, no product can be
/// faster.
double measure_in_registers(ThreadPool& pool, const std::function<int64_t()>& work, int repeats);

/// Normal values that repeat in blocks. Some processors are faster on constants.
void fill_randomly(Backend& backend, Device& device, const View& matrix, uint64_t stream, double deviation = 1);

}  // namespace moe
