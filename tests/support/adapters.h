#pragma once
/// Adapters on tiny models.

#include <string>
#include <utility>
#include <vector>

#include "model/lora.h"

namespace moe {

inline const std::vector<std::string> kAllTargets{"attention", "experts", "shared", "dense", "head"};

/// The model with adapters.
inline ModelConfig adapted(ModelConfig config, const LoraConfig& lora) {
  config.adapters = adapters_of(config, lora);
  return config;
}

inline LoraConfig lora_of(std::vector<std::string> targets, int64_t rank = 3, int64_t rank_experts = 2) {
  return {.rank = rank, .alpha = 5, .dropout = 0, .targets = std::move(targets), .rank_experts = rank_experts};
}

}  // namespace moe
