// OLMoE: every layer has experts and no shared one; q and k are normalised over all heads before the rotation.

#include "checkpoint/family.h"

namespace moe {
namespace {

constexpr FamilyField kFields[] = {
    {"vocab_size", "vocab_size"},
    {"hidden_size", "hidden_size"},
    {"num_hidden_layers", "num_hidden_layers"},
    {"num_attention_heads", "num_attention_heads"},
    {"num_key_value_heads", "num_key_value_heads"},
    {"num_experts_per_tok", "num_experts_per_tok"},
    {"norm_topk_prob", "norm_topk_prob"},
    {"max_position_embeddings", "max_position_embeddings"},
    {"tie_word_embeddings", "tie_word_embeddings"},
    {"rms_norm_eps", "rms_norm_eps"},
    {"rope_theta", "rope_theta"},
    {"initializer_range", "initializer_range"},
    {"aux_loss_alpha", "router_aux_loss_coef"},
    {"moe_intermediate_size", "intermediate_size"},
    {"n_routed_experts", "num_experts"},
    {"n_routed_experts", "num_local_experts"},
};

constexpr FixedField kFixed[] = {{"attention_bias", "[false]"}, {"clip_qkv", "[null]"}};

constexpr std::string_view kHarmless[] = {"output_router_logits"};

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
    .harmless = kHarmless,
    .set_defaults = set_defaults,
    .check = nullptr,
    .names = {},
    .gguf_pairs = false,
};

}  // namespace moe
