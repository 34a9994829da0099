#pragma once
/// The weights that a run begins with.

#include <span>

#include "base/thread_pool.h"
#include "model/parameters.h"
#include "ops/device.h"

namespace moe {

/// Draws the initial values of all parameters into `masters`, in the order of `table`, rounded to each view's type. A
/// master of some experts alone gets theirs, and all experts' values go to the view in `parameters`. Hash tables are
/// balanced if `token_counts` (of the training text, by id) are given, else random. The threads of `pool` share the
/// work (null: the calling thread does it alone); their number does not change the result.
void initialize_parameters(const ModelConfig& config, const std::vector<Parameter>& table,
                           const std::vector<View>& parameters, const std::vector<View>& masters, uint64_t seed,
                           double standard_deviation, std::span<const int64_t> token_counts, ThreadPool* pool,
                           Device& device);

}  // namespace moe
