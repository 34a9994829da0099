#pragma once
/// The weights that a run begins with.

#include <span>

#include "base/thread_pool.h"
#include "model/parameters.h"
#include "ops/device.h"

namespace moe {

/// Draws the initial values of all parameters into `views`, in the order of `table`, rounded to each view's type. Hash
/// tables are balanced if `token_counts` (of the training text, by id) are given, else random. The threads of `pool`
/// share the work (null: the calling thread does it alone); their number does not change the result.
void initialize_parameters(const ModelConfig& config, const std::vector<Parameter>& table,
                           const std::vector<View>& views, uint64_t seed, double standard_deviation,
                           std::span<const int64_t> token_counts, ThreadPool* pool, Device& device);

}  // namespace moe
