#pragma once
/// The files of a model folder that hold its weights.

#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "formats/json.h"

namespace moe {

inline constexpr const char* kWeightIndex = "model.safetensors.index.json";

/// The file of each tensor as FOLDER/model.safetensors.index.json says; empty if model.safetensors has them all.
std::map<std::string, std::string> weight_map(const fs::path& folder);

/// FOLDER/model.safetensors. If that does not exist: the files that FOLDER/model.safetensors.index.json names, sorted.
/// A damaged index, or one that names a missing file, is an error with its name.
std::vector<fs::path> weight_files(const fs::path& folder);

/// The name of file `index` (from 0) of `count` files: model.safetensors if there is one.
std::string weight_file(size_t index, size_t count);

/// Writes FOLDER/model.safetensors.index.json. `files` has the name of each tensor's file, `bytes` are those of all
/// tensors.
void write_weight_index(const fs::path& folder, const Json& files, int64_t bytes);

}  // namespace moe
