// Mixtral: every layer has experts of full width. The gates of the chosen experts are divided by their sum.

#include "base/error.h"
#include "checkpoint/families/common_fields.h"

namespace moe {
namespace {

constexpr FamilyField kOwn[] = {
    {"moe_intermediate_size", "intermediate_size"}, {"head_dim", "head_dim"},
    {"n_routed_experts", "num_local_experts"},      {"num_experts_per_tok", "num_experts_per_tok"},
    {"router_jitter", "router_jitter_noise"},       {"aux_loss_alpha", "router_aux_loss_coef"},
};
constexpr auto kFields = joined(kDecoderFields, kOwn);

constexpr std::string_view kHarmless[] = {"sliding_window"};  // checked below

// The values of the family's class for absent fields.
void set_defaults(ModelConfig& config) {
  config.num_key_value_heads = 8;
  config.n_routed_experts = 8;
  config.num_experts_per_tok = 2;
  config.moe_intermediate_size = 14336;
  config.max_position_embeddings = 131072;
  config.rms_norm_eps = 1e-5;
  config.rope_theta = 1e6;
  config.initializer_range = 0.02;
  config.norm_topk_prob = true;
  config.seq_aux = false;
}

void check(const Json& json, const std::string& name, const ModelConfig& config) {
  const Json* window = json_find(json, "sliding_window", name);
  if (window == nullptr || json_int(json, "sliding_window", name) >= config.max_position_embeddings) return;
  fail(
      "{}: sliding_window is {}, expected null or at least max_position_embeddings, {}; this program computes no "
      "shorter windows",
      name, json_shown(*window), config.max_position_embeddings);
}

}  // namespace

const Family kMixtralFamily = {
    .model_type = "mixtral",
    .architecture = "MixtralForCausalLM",
    .fields = kFields,
    .fixed = {},
    .harmless = kHarmless,
    .set_defaults = set_defaults,
    .check = check,
    .names = {.router = "block_sparse_moe.gate.weight",
              .expert_gate = "block_sparse_moe.experts.{}.w1.weight",
              .expert_up = "block_sparse_moe.experts.{}.w3.weight",
              .expert_down = "block_sparse_moe.experts.{}.w2.weight"},
    .fused_experts = true,
};

}  // namespace moe
