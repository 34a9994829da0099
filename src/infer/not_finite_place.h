#pragma once
/// Where a model's numbers stop being finite.

#include <cstdint>
#include <span>
#include <string>

#include "infer/model_on_device.h"

namespace moe {

/// Computes these tokens once more, without a cache, and names the first layer whose output is not finite, as words
/// that follow a sentence: "; the first are the outputs of layer 2 (of 4 from 0)". Empty if there is none, or if the
/// device has no memory for this pass.
std::string not_finite_place(const ModelOnDevice& runtime, std::span<const int32_t> ids);

}  // namespace moe
