#pragma once
/// The safetensors files of a model, or of an optimiser's state, as one set of tensors.

#include <string>
#include <unordered_map>
#include <vector>

#include "formats/safetensors.h"
#include "model/config.h"

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

/// True for a tensor that is passed over, because its content is known without it: rotary frequencies of old files, and
/// a tied head whose bytes are the embedding's.
bool is_passed_over(const TensorFiles& files, const SafetensorsTensor& tensor, const ModelConfig& config);

/// The weights of a model folder. An index that says anything else than its files is an error; it may leave out what is
/// passed over.
TensorFiles open_weight_files(const fs::path& folder, const ModelConfig& config);

}  // namespace moe
