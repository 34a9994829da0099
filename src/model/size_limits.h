#pragma once
/// The largest models that can be counted.

#include "model/config.h"

namespace moe {

/// Refuses more parameters than 2^53, up to which doubles count exactly, and names the largest tensor. Each size must
/// have been found to be in the range of its key.
void require_countable(const ModelConfig& config);

}  // namespace moe
