#pragma once

#include <string>

#include "train/run_config.h"

namespace moe {

/// A table of what a run trains, for people: by kind of tensor the parameters in all and those that are trained, their
/// types and the device; then the sums and the trained share. Adapters are lines of their own.
std::string trained_text(const RunConfig& run, const std::string& device);

/// A sentence that counts the model's tensors which have another type than lora.base, because their rows are not whole
/// blocks of it; "" if there is none.
std::string base_types_warning(const RunConfig& run);

/// True if the run begins with a model's weights, or does not train every parameter.
bool has_trained_text(const RunConfig& run);

}  // namespace moe
