#pragma once
/// Finds the files of a model folder that hold its weights.

#include <vector>

#include "base/file.h"

namespace moe {

/// FOLDER/model.safetensors. If that does not exist: the files that FOLDER/model.safetensors.index.json names, sorted.
/// A damaged index, or one that names a missing file, is an error with its name.
std::vector<fs::path> weight_files(const fs::path& folder);

}  // namespace moe
