#pragma once

#include <memory>

#include "base/fs.h"
#include "infer/switches.h"
#include "infer/weight_types.h"
#include "model/model.h"
#include "model/pass_memory.h"

namespace moe {

/// The routed experts of the first layers, where they are in the host's memory (infer/expert_offload.h).
struct HostExperts {
  int64_t layers = 0;
  Device* device = nullptr;  ///< gives the memory; must outlive the model
};

/// A model with routing switches over the weights of a LoadedModel, which must outlive it.
struct SwitchedModel {
  std::unique_ptr<DeviceMemory> score_changes;  ///< null: none
  std::unique_ptr<Model> model;
};

/// A model's weights on a device. Any number of threads may use them while no switches are set.
class LoadedModel {
 public:
  /// Reads a model folder, or a GGUF file, and adapters beside its weights. Weights are stored as `weights` says.
  /// config() has the switches in it. With `host`, `device` must accept the host's addresses too
  /// (ExpertOffload::device()). With `part`, this rank reads and has that part alone, and all ranks compute together
  /// (infer/leader.h); `part` and `host` exclude each other.
  LoadedModel(const fs::path& path, const WeightTypes& weights, Device& device, const RoutingSwitches& switches = {},
              const std::vector<ChosenAdapter>& adapters = {}, const HostExperts& host = {},
              const ModelPart& part = {});

  /// Uses the same weights with other switches. References to the old model() and config() become invalid. An error
  /// changes nothing.
  void set_switches(const RoutingSwitches& switches);
  /// Another model over the same weights, with these switches alone; this one stays as it is.
  SwitchedModel with_switches(const RoutingSwitches& switches) const;

  const ModelConfig& config() const { return model().config(); }
  /// Without the switches.
  const ModelConfig& own_config() const { return own_; }
  const Model& model() const { return *current_.model; }
  /// Of activations beside these weights.
  DType dtype() const { return dtype_; }
  /// The types of the weights and the bytes of each (weights_text()), of all that this rank has.
  const std::string& weights() const { return text_; }
  /// Whether any of the weights are stored in blocks.
  bool in_blocks() const { return in_blocks_; }

 private:
  Device& device_;
  ModelPart part_;
  DType dtype_;
  std::string text_;
  bool in_blocks_ = false;
  ModelConfig own_;       // the configuration without switches
  ModelWeights weights_;  // the weights without switches
  DeviceMemory memory_;
  std::unique_ptr<DeviceMemory> host_memory_;  // null: all weights are on the device
  SwitchedModel current_;
};

}  // namespace moe
