#pragma once
/// A model with random weights, made on the device.

#include <memory>

#include "model/pass_memory.h"

namespace moe {

/// Normal numbers of variance 1 / (elements of a row), in the embedding 1; norms of 1. So tokens differ, and choose
/// their experts about evenly. Hash tables are drawn as in training. A matrix in blocks repeats the same numbers. They
/// are quantised and uploaded part by part, so a model needs no memory but its own. Any number of threads may use it.
class RandomModel {
 public:
  /// `dtype`: of the weights, one of weight_types() (ops/type_set.h).
  RandomModel(const ModelConfig& config, DType dtype, Device& device, Backend& backend);

  /// What the weights allocate.
  static int64_t bytes(const ModelConfig& config, DType dtype);

  const Model& model() const { return *model_; }

 private:
  DeviceMemory memory_;
  std::unique_ptr<Model> model_;
};

}  // namespace moe
