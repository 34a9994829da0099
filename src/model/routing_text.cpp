#include "model/routing_text.h"

#include "base/error.h"
#include "model/keys.h"

namespace moe {

std::string routing_text(const ModelConfig& config) {
  if (config.n_routed_experts == 0) return "no routed experts";
  std::string text = fmt::format("{} of {} experts", config.num_experts_per_tok, config.n_routed_experts);
  if (config.n_shared_experts > 0) text += fmt::format(" and {} shared", config.n_shared_experts);
  tell<ModelConfig>(model_keys(), config, config, [&](const KeyRow<ModelConfig>& row, const std::string& value) {
    if (row.needs != nullptr) text += fmt::format(", {} = {}", row.leaf(), value);
  });
  return text;
}

}  // namespace moe
