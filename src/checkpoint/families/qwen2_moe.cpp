// Qwen2-MoE: every layer has experts and one shared expert of its own width, times sigmoid(s . x); q, k and v have
// biases.

#include "base/error.h"
#include "checkpoint/families/common_fields.h"

namespace moe {
namespace {

constexpr FamilyField kOwn[] = {
    {"moe_intermediate_size", "moe_intermediate_size"},
    {"shared_expert_intermediate_size", "shared_expert_intermediate_size"},
    {"intermediate_size", "intermediate_size"},
};
constexpr auto kFields = joined(kDecoderFields, kExpertFields, kOwn);

constexpr FixedField kOwnFixed[] = {{"qkv_bias", "[true]"}};
constexpr auto kFixed = joined(kOwnFixed, kQwenFixed);

constexpr std::string_view kHarmless[] = {"sliding_window"};  // without use_sliding_window

// The values of the family's class for absent fields.
void set_defaults(ModelConfig& config) {
  config.qkv_bias = true;
  config.gated_shared_expert = true;
  config.n_shared_experts = 1;
  config.num_key_value_heads = 16;
  config.n_routed_experts = 60;
  config.num_experts_per_tok = 4;
  config.moe_intermediate_size = 1408;
  config.shared_expert_intermediate_size = 5632;
  config.intermediate_size = 5632;
  config.max_position_embeddings = 32768;
  config.initializer_range = 0.02;
  config.seq_aux = false;
}

void check(const Json&, const std::string& name, const ModelConfig& config) {
  if (config.shared_expert_intermediate_size == 0) {
    fail("{}: shared_expert_intermediate_size is 0, expected the width of the shared expert", name);
  }
}

}  // namespace

const Family kQwen2MoeFamily = {
    .model_type = "qwen2_moe",
    .architecture = "Qwen2MoeForCausalLM",
    .fields = kFields,
    .fixed = kFixed,
    .harmless = kHarmless,
    .set_defaults = set_defaults,
    .check = check,
    .names = {.shared = "mlp.shared_expert."},
    .fused_experts = true,
    .gguf_pairs = false,
};

}  // namespace moe
