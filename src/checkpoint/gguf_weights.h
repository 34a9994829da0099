#pragma once
/// Models in GGUF files, named as llama.cpp names them.

#include <vector>

#include "checkpoint/file_weights.h"
#include "formats/gguf.h"
#include "ops/device.h"

namespace moe {

/// The weights of a GGUF file, or of the first of several, mapped. The constructor checks the metadata and every
/// tensor: a missing, extra or wrongly shaped one, or one of a type that this program does not work with, is an error
/// that names it. Several threads may read it.
class GgufWeights final : public FileWeights {
 public:
  explicit GgufWeights(const fs::path& path);

  std::vector<StoredTensor> tensors() const override;

 private:
  explicit GgufWeights(std::vector<GgufFile> files);
  struct Place {
    const GgufFile* file;
    const GgufTensor* tensor;
  };
  Place find(const GgufName& name) const;
  void refuse_others(const std::vector<GgufName>& names) const;

  std::vector<GgufFile> files_;
};

/// Fills `views` (in the order of `table`, any types). `table` is the source's, or has one rank's experts of it
/// (divide_experts); then nothing of the other experts is read, and nothing of a parameter whose view is absent. Blocks
/// that the source stores in the view's type are copied as they are, other weights are converted through f32. Weights
/// that are not finite, and those that a view's type cannot hold, are an error that names `path` and the parameter.
void load_weights(const WeightSource& source, const fs::path& path, const std::vector<Parameter>& table,
                  const std::vector<View>& views, Device& device);

}  // namespace moe
