#pragma once

#include <memory>

#include "base/fs.h"
#include "infer/switches.h"
#include "model/model.h"
#include "model/pass_memory.h"

namespace moe {

/// A model's weights on a device. Any number of threads may use them while no switches are set.
class LoadedModel {
 public:
  /// Reads a model folder, or a GGUF file. Weights are stored as `weights`, one of weight_types() (ops/type_set.h).
  /// config() has the switches in it.
  LoadedModel(const fs::path& path, DType weights, Device& device, const RoutingSwitches& switches = {});

  /// Uses the same weights with other switches. References to the old model() and config() become invalid. An error
  /// changes nothing.
  void set_switches(const RoutingSwitches& switches);

  const ModelConfig& config() const { return model_->config(); }
  const Model& model() const { return *model_; }
  /// Of activations beside these weights.
  DType dtype() const { return dtype_; }

 private:
  Device& device_;
  DType dtype_;
  ModelConfig own_;       // the configuration without switches
  ModelWeights weights_;  // the weights without switches
  DeviceMemory memory_;
  std::unique_ptr<DeviceMemory> masks_;  // null: none
  std::unique_ptr<Model> model_;
};

}  // namespace moe
