#pragma once
/// The checkpoints of tests/golden/families, which tools/make_family_golden.py makes.

#include <string>
#include <vector>

#include "tests/support/golden.h"

namespace moe {

/// Those with references.
inline const std::vector<std::string>& family_names() {
  static const std::vector<std::string> names{"deepseek",    "deepseek_odd", "deepseek_sparse", "deepseek_one",
                                              "llama",       "llama_odd",    "mixtral",         "mixtral_fused",
                                              "mixtral_one", "qwen3_moe",    "qwen3_moe_odd",   "olmoe",
                                              "olmoe_odd",   "qwen2_moe",    "qwen2_moe_odd"};
  return names;
}

inline fs::path family_folder(const std::string& name) { return golden_folder() / "families" / name; }

/// A golden tensor of floats.
inline std::vector<float> floats(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsTensor* const tensor = file.find(name);
  if (tensor == nullptr || tensor->dtype != "F32") fail("golden tensor {} is missing or not F32", name);
  const auto* const data = reinterpret_cast<const float*>(tensor->data);
  return {data, data + tensor->elements()};
}

/// The norm of found - expected, of as many numbers as `expected` has; NaN if one of them is.
inline double distance(const float* found, const std::vector<float>& expected) {
  double squares = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = static_cast<double>(found[i]) - static_cast<double>(expected[i]);
    squares += difference * difference;
  }
  return std::sqrt(squares);
}

}  // namespace moe
