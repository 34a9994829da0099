// Dense models: LLaMA 2, DeepSeek 7B and 67B, and all others that LlamaForCausalLM computes without rope scaling.

#include "checkpoint/families/common_fields.h"

namespace moe {
namespace {

constexpr FamilyField kOwn[] = {{"intermediate_size", "intermediate_size"}, {"head_dim", "head_dim"}};
constexpr auto kFields = joined(kDecoderFields, kOwn);

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
