#pragma once
/// The names of a model's tensors in every family.

#include <vector>

#include "checkpoint/hf_names.h"

namespace moe {

/// hf_tensors() under the names of every family, each name once. A folder and its GGUF file may name the same experts
/// in two ways, and an adapter has the names of the one that it was trained beside. No name means two things.
std::vector<HfTensor> tensors_of_all_families(const ModelConfig& config, const std::vector<Parameter>& table);

}  // namespace moe
