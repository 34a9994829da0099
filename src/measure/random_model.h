#pragma once
/// A model with random weights, made on the device.

#include <memory>
#include <vector>

#include "model/pass_memory.h"

namespace moe {

/// Normal numbers of variance 1 / (elements of a row), in the embedding 1; norms of 1. So tokens differ, and choose
/// their experts about evenly. Hash tables are drawn as in training. A matrix in blocks repeats the same numbers. They
/// are quantised and uploaded part by part, so a model needs no memory but its own. Any number of threads may use it.
class RandomModel {
 public:
  /// `types`: of all parameters (measure/model_types.h).
  RandomModel(const ModelConfig& config, const std::vector<DType>& types, Device& device, Backend& backend);

  const Model& model() const { return *model_; }

 private:
  DeviceMemory memory_;
  std::unique_ptr<Model> model_;
};

}  // namespace moe
