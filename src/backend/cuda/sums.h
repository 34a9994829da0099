#pragma once
/// Sums whose order does not depend on which block ends first.

#include "backend/cuda/context.h"

namespace moe::cuda {

/// Queues *total += the sum of `count` partial sums, in a fixed order.
void add_up(const Context& context, const double* partials, int64_t count, double* total);

}  // namespace moe::cuda
