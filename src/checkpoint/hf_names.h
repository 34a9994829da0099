#pragma once
/// Maps each Hugging Face tensor of a model's family (checkpoint/family.h) to a part of one of our parameters.

#include <functional>
#include <string>
#include <vector>

#include "model/parameters.h"

namespace moe {

/// A contiguous part of one of our parameters, with its Hugging Face name.
struct HfTensor {
  std::string name;
  std::vector<int64_t> shape;
  size_t parameter;  ///< index in the parameter table
  int64_t offset;    ///< elements from the parameter's first element

  int64_t elements() const;
};

/// Every element of every parameter of `table` exactly once, in the order of the table. `has` says if a file has a
/// tensor of this name: if it has a layer's fused name, the layer's experts are one tensor. If `has` is empty, they are
/// separate.
std::vector<HfTensor> hf_tensors(const ModelConfig& config, const std::vector<Parameter>& table,
                                 const std::function<bool(const std::string&)>& has = {});

}  // namespace moe
