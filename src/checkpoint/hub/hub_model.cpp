#include "checkpoint/hub/hub_model.h"

#include "checkpoint/family.h"

namespace moe {

bool needs_modeling_file(const ModelConfig& config) { return &family_of(config) == &kDeepseekFamily; }

Json auto_map(const Json& hf_config) {
  const bool deepseek = hf_config.at("model_type") == Json(kDeepseekFamily.model_type);
  return {{"AutoConfig", deepseek ? "modeling_moe.DeepseekConfig" : "modeling_moe.MoeConfig"},
          {"AutoModelForCausalLM", deepseek ? "modeling_moe.DeepseekForCausalLM" : "modeling_moe.MoeForCausalLM"}};
}

}  // namespace moe
