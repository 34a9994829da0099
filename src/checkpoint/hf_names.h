#pragma once
/// Where each Hugging Face tensor of `DeepseekForCausalLM` (docs/paper.md section 2) lies inside our parameters.

#include <string>
#include <vector>

#include "model/parameters.h"

namespace moe {

/// A contiguous part of one of our parameters under its Hugging Face name.
struct HfTensor {
  std::string name;
  std::vector<int64_t> shape;
  size_t parameter;  ///< index in the parameter table
  int64_t offset;    ///< elements from the parameter's first

  int64_t elements() const;
};

/// Every element of every parameter exactly once, in the order of the table.
std::vector<HfTensor> hf_tensors(const ModelConfig& config, const std::vector<Parameter>& table);

}  // namespace moe
