#include "model/config.h"

namespace moe {

bool ModelConfig::is_moe_layer(int64_t layer) const {
  return n_routed_experts > 0 && layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
}

int64_t ModelConfig::moe_layers() const {
  int64_t count = 0;
  for (int64_t layer = 0; layer < num_hidden_layers; ++layer) count += is_moe_layer(layer) ? 1 : 0;
  return count;
}

DecoderConfig ModelConfig::decoder(const BalanceConfig& balance) const {
  return {.attention = {.hidden = hidden_size,
                        .heads = static_cast<int>(num_attention_heads),
                        .kv_heads = static_cast<int>(num_key_value_heads),
                        .head_dim = head_dim},
          .moe = {.hidden = hidden_size,
                  .width = moe_intermediate_size,
                  .router = {.experts = n_routed_experts,
                             .top_k = num_experts_per_tok,
                             .normalize = norm_topk_prob && num_experts_per_tok > 1,
                             .skip = skipped_experts},
                  .balance = balance},
          .norm_eps = static_cast<float>(rms_norm_eps)};
}

namespace {

void require_positive(const char* field, int64_t value) {
  if (value <= 0) fail("the model's {} is {}, expected a positive number", field, value);
}

void validate_experts(const ModelConfig& config) {
  require_positive("moe_intermediate_size", config.moe_intermediate_size);
  require_positive("num_experts_per_tok", config.num_experts_per_tok);
  require_positive("moe_layer_freq", config.moe_layer_freq);
  if (config.num_experts_per_tok > config.n_routed_experts) {
    fail("the model's num_experts_per_tok is {}, but there are only {} routed experts (n_routed_experts)",
         config.num_experts_per_tok, config.n_routed_experts);
  }
  if (config.skipped_experts < 0 || config.skipped_experts + config.num_experts_per_tok > config.n_routed_experts) {
    fail("{} best experts to pass over and {} to choose are more than the {} routed experts", config.skipped_experts,
         config.num_experts_per_tok, config.n_routed_experts);
  }
  if (config.n_shared_experts < 0)
    fail("the model's n_shared_experts is {}, expected 0 or more", config.n_shared_experts);
  if (config.first_k_dense_replace < 0) {
    fail("the model's first_k_dense_replace is {}, expected 0 or more", config.first_k_dense_replace);
  }
}

}  // namespace

void validate(const ModelConfig& config) {
  require_positive("vocab_size", config.vocab_size);
  require_positive("hidden_size", config.hidden_size);
  require_positive("num_hidden_layers", config.num_hidden_layers);
  require_positive("num_attention_heads", config.num_attention_heads);
  require_positive("num_key_value_heads", config.num_key_value_heads);
  require_positive("head_dim", config.head_dim);
  require_positive("max_position_embeddings", config.max_position_embeddings);
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    fail("the model's num_attention_heads is {}, expected a multiple of num_key_value_heads, which is {}",
         config.num_attention_heads, config.num_key_value_heads);
  }
  if (config.head_dim % 2 != 0) {
    fail("the model's head_dim is {}, expected an even number (rotary positions turn pairs)", config.head_dim);
  }
  if (!(config.rope_theta > 0)) fail("the model's rope_theta is {}, expected a positive number", config.rope_theta);
  if (!(config.rms_norm_eps >= 0)) fail("the model's rms_norm_eps is {}, expected 0 or more", config.rms_norm_eps);
  if (config.n_routed_experts < 0)
    fail("the model's n_routed_experts is {}, expected 0 or more", config.n_routed_experts);
  if (config.n_routed_experts > 0) validate_experts(config);
  if (config.moe_layers() < config.num_hidden_layers) require_positive("intermediate_size", config.intermediate_size);
}

}  // namespace moe
