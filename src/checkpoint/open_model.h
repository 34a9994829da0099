#pragma once
/// Opens a model of any format: a folder, a GGUF file, or the first of several.

#include <memory>

#include "base/file.h"
#include "checkpoint/weight_source.h"
#include "ops/device.h"

namespace moe {

/// The configuration alone. Weights are not examined.
ModelConfig read_model_config(const fs::path& path);

/// Every tensor is checked; nothing is read into memory.
std::unique_ptr<WeightSource> open_weights(const fs::path& path);

/// Fills `views` (in the order of the model's table, of any type) with the weights of `path`, after every check of
/// them. `config` is read_model_config(path), or one with the same parameters.
void load_model(const fs::path& path, const ModelConfig& config, const std::vector<View>& views, Device& device);

}  // namespace moe
