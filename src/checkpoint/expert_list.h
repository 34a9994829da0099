#pragma once
/// The experts that a task needs (ESFT: Wang et al. 2024), as the published expert_cfg.json lists them:
///   {"experts": {"1": [3, 17], "2": [0]}, "shared_experts": false, "non_expert_modules": false}
/// Layers are counted from 0 over all layers of the model, dense ones included.

#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "formats/json.h"
#include "model/config.h"

namespace moe {

inline constexpr const char* kExpertListFile = "expert_cfg.json";

struct ExpertList {
  std::map<int64_t, std::vector<int64_t>> experts;  ///< for each layer its routed experts, ascending
  bool shared_experts = false;                      ///< also the shared experts of all layers
  bool non_expert_modules = false;                  ///< also everything outside the experts, routers among them

  /// The experts of a layer; empty if it has none.
  const std::vector<int64_t>& of_layer(int64_t layer) const;
  int64_t count() const;  ///< over all layers

  bool operator==(const ExpertList&) const = default;
};

/// Errors call the document `where`. Members that the form does not have are refused: one may be a misspelled switch.
ExpertList parse_expert_list(const Json& json, const std::string& where);
/// The same for a file, in which no layer may be named twice.
ExpertList read_expert_list(const fs::path& path);
std::string expert_list_text(const ExpertList& list);

/// Throws an Error if the list names a layer without routed experts, or an expert that the layer does not have.
void check_expert_list(const ExpertList& list, const ModelConfig& config, const std::string& where);

}  // namespace moe
