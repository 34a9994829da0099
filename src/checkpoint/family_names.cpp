#include "checkpoint/family_names.h"

#include <set>

#include "checkpoint/family.h"

namespace moe {

std::vector<HfTensor> tensors_of_all_families(const ModelConfig& config, const std::vector<Parameter>& table) {
  std::vector<HfTensor> tensors;
  std::set<std::string> known;
  ModelConfig named = config;
  for (const Family* family : families()) {
    named.family = family->model_type;
    for (HfTensor& tensor : hf_tensors(named, table)) {
      if (known.insert(tensor.name).second) tensors.push_back(std::move(tensor));
    }
  }
  return tensors;
}

}  // namespace moe
