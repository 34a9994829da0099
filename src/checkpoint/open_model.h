#pragma once
/// Opens a model of any format: a folder, a GGUF file, or the first of several.

#include <memory>

#include "base/file.h"
#include "checkpoint/weight_source.h"

namespace moe {

/// The configuration alone. Weights are not examined.
ModelConfig read_model_config(const fs::path& path);

/// Every tensor is checked; nothing is read into memory.
std::unique_ptr<WeightSource> open_weights(const fs::path& path);

}  // namespace moe
