#pragma once
/// adapter_config.json of a LoRA adapter in PEFT's form.

#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "formats/json.h"
#include "tokenizer/regex.h"

namespace moe {

inline constexpr const char* kAdapterConfig = "adapter_config.json";
inline constexpr const char* kAdapterWeights = "adapter_model.safetensors";

/// True if `folder` has an adapter_config.json.
bool is_adapter(const fs::path& folder);

/// The adapter's folder for a path that people give: the folder itself, or of a run its newest checkpoint. Throws an
/// Error if there is no adapter.
fs::path adapter_folder(const std::string& path);

/// Several threads may use it.
class AdapterConfig {
 public:
  /// Reads FOLDER/adapter_config.json. Refuses other methods than LoRA, and what changes LoRA's mathematics, by name.
  explicit AdapterConfig(const fs::path& folder);

  /// The model that the adapter was trained on, as its file says; "": it does not say.
  const std::string& base() const { return base_; }
  /// The factor of the change of a module ("model.layers.0.self_attn.q_proj") or a parameter
  /// ("model.layers.0.mlp.experts.gate_up_proj") whose rank is `rank`. It fits a float.
  double scale(const std::string& name, int64_t rank) const;
  /// True if target_parameters has a name with this end ("gate_up_proj").
  bool targets_parameter(std::string_view leaf) const;

 private:
  std::string file_, base_;
  double alpha_ = 0;
  bool root_ = false;                             // the scale is alpha / sqrt(rank)
  std::vector<std::pair<Regex, double>> alphas_;  // patterns and their alpha, in the file's order
  std::vector<std::string> parameters_;
};

}  // namespace moe
