// Dense models: LLaMA 2, DeepSeek 7B and 67B, and all others that LlamaForCausalLM computes without rope scaling.

#include "checkpoint/family.h"

namespace moe {
namespace {

constexpr FamilyField kFields[] = {
    {"vocab_size", "vocab_size"},
    {"hidden_size", "hidden_size"},
    {"intermediate_size", "intermediate_size"},
    {"num_hidden_layers", "num_hidden_layers"},
    {"num_attention_heads", "num_attention_heads"},
    {"num_key_value_heads", "num_key_value_heads"},
    {"head_dim", "head_dim"},
    {"max_position_embeddings", "max_position_embeddings"},
    {"tie_word_embeddings", "tie_word_embeddings"},
    {"rms_norm_eps", "rms_norm_eps"},
    {"rope_theta", "rope_theta"},
    {"initializer_range", "initializer_range"},
};

constexpr FixedField kFixed[] = {{"attention_bias", "[false]"}, {"mlp_bias", "[false]"}};

}  // namespace

const Family kLlamaFamily = {
    .model_type = "llama",
    .architecture = "LlamaForCausalLM",
    .fields = kFields,
    .fixed = kFixed,
    .harmless = {},
    .set_defaults = [](ModelConfig& config) { config.initializer_range = 0.02; },
    .check = nullptr,
    .names = {},
};

}  // namespace moe
