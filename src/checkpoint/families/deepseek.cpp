// DeepSeekMoE: DeepseekForCausalLM, dense models of the same class, and our own routing methods beside it.

#include "base/error.h"
#include "checkpoint/family.h"

namespace moe {
namespace {

constexpr FixedField kFixed[] = {{"attention_bias", "[false]"}};

constexpr std::string_view kHarmless[] = {"num_local_experts", "qk_nope_head_dim"};  // checked below

void check(const Json& json, const std::string& name, const ModelConfig& config) {
  if (json_find(json, "qk_nope_head_dim", name) != nullptr && json_int(json, "qk_nope_head_dim", name) != 0) {
    fail("{}: qk_nope_head_dim is {}, expected 0; this program does not compute latent attention", name,
         json_int(json, "qk_nope_head_dim", name));
  }
  // Converted from another family: the same number under the other family's name.
  if (json_find(json, "num_local_experts", name) == nullptr) return;
  if (const int64_t local = json_int(json, "num_local_experts", name); local != config.n_routed_experts) {
    fail("{}: num_local_experts is {} and n_routed_experts is {}, expected the same number", name, local,
         config.n_routed_experts);
  }
}

}  // namespace

const Family kDeepseekFamily = {
    .model_type = "deepseek",
    .architecture = "DeepseekForCausalLM",
    .fields = {},
    .fixed = kFixed,
    .harmless = kHarmless,
    .set_defaults = [](ModelConfig& config) { config.initializer_range = 0.02; },
    .check = check,
    .names = {},
};

}  // namespace moe
