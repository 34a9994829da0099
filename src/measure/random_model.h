#pragma once
/// A model with random weights, made on the device.

#include <memory>

#include "model/pass_memory.h"

namespace moe {

/// Normal numbers of variance 1 / (elements of a row), in the embedding 1; norms of 1. So tokens differ, and choose
/// their experts about evenly. Hash tables are drawn as in training. Blocks repeat
/// the same numbers: only their number matters to the time. Any number of threads may use the model.
class RandomModel {
 public:
  RandomModel(const ModelConfig& config, DType dtype, Device& device, Backend& backend);

  const Model& model() const { return *model_; }

 private:
  DeviceMemory memory_;
  std::unique_ptr<Model> model_;
};

}  // namespace moe
