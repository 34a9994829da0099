#pragma once
/// The size of the largest models that can be counted.

#include "model/config.h"

namespace moe {

/// Refuses a model with more than 2^53 parameters (doubles count exactly up to there), and names the largest tensor.
/// Every size must already be in the range of its key.
void require_countable(const ModelConfig& config);

}  // namespace moe
