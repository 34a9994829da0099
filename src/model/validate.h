#pragma once
/// Checks that the sizes and the routing of a model fit together.

#include "model/config.h"

namespace moe {

/// Throws an Error that names the field if sizes are missing or do not fit together.
void validate(const ModelConfig& config);

}  // namespace moe
