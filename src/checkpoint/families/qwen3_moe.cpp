// Qwen3-MoE: every layer has experts and no shared one; q and k of each head are normalised before the rotation.

#include "base/error.h"
#include "checkpoint/families/common_fields.h"

namespace moe {
namespace {

constexpr FamilyField kOwn[] = {
    {"head_dim", "head_dim"},
    {"moe_intermediate_size", "moe_intermediate_size"},
    {"intermediate_size", "intermediate_size"},
};
constexpr auto kFields = joined(kDecoderFields, kExpertFields, kOwn);

constexpr FixedField kOwnFixed[] = {{"attention_bias", "[false]"}};
constexpr auto kFixed = joined(kOwnFixed, kQwenFixed);

// Without use_sliding_window; the others are checked below.
constexpr std::string_view kHarmless[] = {"sliding_window", "qkv_bias", "use_qk_norm",
                                          "shared_expert_intermediate_size"};

// The values of the family's class for absent fields.
void set_defaults(ModelConfig& config) {
  config.qk_norm = QkNorm::each_head;
  config.num_key_value_heads = 4;
  config.n_routed_experts = 128;
  config.num_experts_per_tok = 8;
  config.moe_intermediate_size = 768;
  config.intermediate_size = 6144;
  config.max_position_embeddings = 32768;
  config.initializer_range = 0.02;
  config.seq_aux = false;
}

/// Fields that published files have beside the family's own.
void check(const Json& json, const std::string& name, const ModelConfig&) {
  const auto require = [&](const char* field, const Json& value) {
    const Json* found = json_find(json, field, name);
    if (found == nullptr || *found == value) return;
    fail("{}: {} is {}, expected {}; this program does not compute the other form", name, field, json_shown(*found),
         json_shown(value));
  };
  require("qkv_bias", false);
  require("use_qk_norm", true);
  require("shared_expert_intermediate_size", 0);
}

}  // namespace

const Family kQwen3MoeFamily = {
    .model_type = "qwen3_moe",
    .architecture = "Qwen3MoeForCausalLM",
    .fields = kFields,
    .fixed = kFixed,
    .harmless = kHarmless,
    .set_defaults = set_defaults,
    .check = check,
    .names = {},
    .fused_experts = true,
    .gguf_pairs = false,
};

}  // namespace moe
