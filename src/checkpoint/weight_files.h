#pragma once
/// Which files of a model folder hold its weights.

#include <vector>

#include "base/file.h"

namespace moe {

/// FOLDER/model.safetensors; where it does not exist, the files that FOLDER/model.safetensors.index.json names, sorted.
/// An index that is damaged, or that names a file which is not there, is an error that names it.
std::vector<fs::path> weight_files(const fs::path& folder);

}  // namespace moe
