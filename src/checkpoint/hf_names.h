#pragma once
/// Where each Hugging Face tensor of a model's family (checkpoint/family.h) lies inside our parameters.

#include <functional>
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

/// Every element of every parameter exactly once, in the order of the table. `has` says whether a file has a tensor of
/// that name: a layer's experts are one tensor where it has their fused name. Empty: they are apart.
std::vector<HfTensor> hf_tensors(const ModelConfig& config, const std::vector<Parameter>& table,
                                 const std::function<bool(const std::string&)>& has = {});

}  // namespace moe
