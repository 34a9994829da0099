#pragma once
/// The safetensors files of a model, or of an optimiser's state, as one set of tensors.

#include <string>
#include <unordered_map>
#include <vector>

#include "formats/safetensors.h"

namespace moe {

/// Several mapped files that hold tensors together. Several threads may read it.
class TensorFiles {
 public:
  /// Checks every file, and that no tensor is in two files.
  explicit TensorFiles(const std::vector<fs::path>& paths);

  struct Place {
    const SafetensorsFile* file = nullptr;
    const SafetensorsTensor* tensor = nullptr;
  };
  /// Null pointers if no file has the tensor.
  Place find(const std::string& name) const;
  bool has(const std::string& name) const { return places_.count(name) != 0; }

  /// At least one.
  const std::vector<SafetensorsFile>& files() const { return files_; }

 private:
  std::vector<SafetensorsFile> files_;
  std::unordered_map<std::string, Place> places_;
};

/// The weights of a model folder. An index that says anything else than its files is an error.
TensorFiles open_weight_files(const fs::path& folder);

}  // namespace moe
