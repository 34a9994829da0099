#pragma once
/// Which parameters of a model get adapters (nn/adapter.h), by the words of [lora] targets.

#include <optional>
#include <string>
#include <vector>

#include "model/parameters.h"

namespace moe {

/// [lora] of a run file.
struct LoraConfig {
  int64_t rank = 8;
  double alpha = 16;  ///< an adapter's change is multiplied by alpha / rank
  double dropout = 0;
  std::vector<std::string> targets = {};
  int64_t rank_experts = 0;  ///< of routed experts
  /// The type of the model's own matrices, which keep their values: that of the run, or blocks. Nothing: of the run.
  std::optional<DType> base = std::nullopt;
};

/// The types that `base` may have.
std::vector<std::string> lora_base_types();

/// The words that targets may have.
std::vector<std::string> lora_targets();

/// The words that stand for a parameter of the model, in the order of lora_targets(). With tied embeddings "head" is
/// not among them.
std::vector<std::string> present_targets(const ModelConfig& config);

/// The word whose adapters change this parameter; empty if none does.
std::string lora_target(const ParameterInfo& parameter);

/// The adapters of `lora` on the model without adapters. Throws an Error that names a target which is no word of
/// lora_targets(), or which stands for nothing in this model.
AdapterShapes adapters_of(const ModelConfig& config, const LoraConfig& lora);

}  // namespace moe
