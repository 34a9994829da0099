#pragma once
/// Rows of fields that several families have under the same names, for their tables (checkpoint/family.h).

#include <array>
#include <cstddef>

#include "checkpoint/family.h"

namespace moe {

/// Of every decoder in the style of LLaMA.
inline constexpr FamilyField kDecoderFields[] = {
    {"vocab_size", "vocab_size"},
    {"hidden_size", "hidden_size"},
    {"num_hidden_layers", "num_hidden_layers"},
    {"num_attention_heads", "num_attention_heads"},
    {"num_key_value_heads", "num_key_value_heads"},
    {"max_position_embeddings", "max_position_embeddings"},
    {"tie_word_embeddings", "tie_word_embeddings"},
    {"rms_norm_eps", "rms_norm_eps"},
    {"rope_theta", "rope_theta"},
    {"initializer_range", "initializer_range"},
};

/// Of the families whose router may divide the gates by their sum.
inline constexpr FamilyField kExpertFields[] = {
    {"num_experts_per_tok", "num_experts_per_tok"}, {"norm_topk_prob", "norm_topk_prob"},
    {"aux_loss_alpha", "router_aux_loss_coef"},     {"n_routed_experts", "num_experts"},
    {"n_routed_experts", "num_local_experts"},  // as transformers 5 writes it
};

/// Of the families of Qwen: experts in every layer, attention to all earlier tokens.
inline constexpr FixedField kQwenFixed[] = {
    {"decoder_sparse_step", "[1]"}, {"mlp_only_layers", "[[]]"}, {"use_sliding_window", "[false]"}};

/// Several tables as one.
template <class Row, size_t... sizes>
constexpr std::array<Row, (sizes + ...)> joined(const Row (&... tables)[sizes]) {
  std::array<Row, (sizes + ...)> rows{};
  size_t at = 0;
  const auto add = [&](const auto& table) {
    for (const Row& row : table) rows[at++] = row;
  };
  (add(tables), ...);
  return rows;
}

}  // namespace moe
