// OLMoE: every layer has experts and no shared one; q and k are normalised over all heads before the rotation.

#include "checkpoint/families/common_fields.h"

namespace moe {
namespace {

constexpr FamilyField kOwn[] = {{"moe_intermediate_size", "intermediate_size"}};
constexpr auto kFields = joined(kDecoderFields, kExpertFields, kOwn);

constexpr FixedField kFixed[] = {{"attention_bias", "[false]"}, {"clip_qkv", "[null]"}};

// The values of the family's class for absent fields.
void set_defaults(ModelConfig& config) {
  config.qk_norm = QkNorm::all_heads;
  config.n_routed_experts = 64;
  config.num_experts_per_tok = 8;
  config.moe_intermediate_size = 2048;
  config.max_position_embeddings = 4096;
  config.rms_norm_eps = 1e-5;
  config.initializer_range = 0.02;
  config.seq_aux = false;
}

}  // namespace

const Family kOlmoeFamily = {
    .model_type = "olmoe",
    .architecture = "OlmoeForCausalLM",
    .fields = kFields,
    .fixed = kFixed,
    .harmless = {},
    .set_defaults = set_defaults,
    .check = nullptr,
    .names = {},
    .fused_experts = true,
    .gguf_pairs = false,
};

}  // namespace moe
