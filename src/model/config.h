#pragma once
/// The shape of a model: what a Hugging Face `DeepseekForCausalLM` config.json says of the mathematics (docs/paper.md section 2).

#include <cstdint>
#include <optional>

#include "nn/decoder_layer.h"

namespace moe {

struct ModelConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;      ///< width of the dense layers' FFN
  int64_t moe_intermediate_size = 0;  ///< width of one expert
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;               ///< hidden_size / num_attention_heads unless the file says otherwise
  int64_t n_shared_experts = 0;
  int64_t n_routed_experts = 0;       ///< 0: every layer is dense
  int64_t num_experts_per_tok = 0;
  int64_t moe_layer_freq = 1;
  int64_t first_k_dense_replace = 0;
  bool norm_topk_prob = false;
  int64_t skipped_experts = 0;        ///< each token's best experts that are passed over; in inference only, in no file
  bool tie_word_embeddings = false;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  int64_t max_position_embeddings = 2048;
  double initializer_range = 0.006;
  double aux_loss_alpha = 0.001;
  bool seq_aux = true;
  std::optional<int64_t> bos_token_id;
  std::optional<int64_t> eos_token_id;
  std::optional<int64_t> pad_token_id;

  /// Layer i is a MoE layer when there are routed experts, i >= first_k_dense_replace and i % moe_layer_freq == 0.
  bool is_moe_layer(int64_t layer) const;
  int64_t moe_layers() const;
  int64_t shared_width() const { return n_shared_experts * moe_intermediate_size; }

  DecoderConfig decoder(const BalanceConfig& balance = {}) const;
};

/// Throws Error naming the field when sizes are missing or do not fit each other.
void validate(const ModelConfig& config);

}  // namespace moe
