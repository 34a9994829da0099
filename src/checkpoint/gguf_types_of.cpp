#include "checkpoint/gguf_types_of.h"

#include <algorithm>

namespace moe {
namespace {

constexpr Quantization kQuantizations[] = {
    {"q8_0", DType::q8_0, false, 7},   {"q4_0", DType::q4_0, false, 2},  {"q4_1", DType::q4_1, false, 3},
    {"q5_0", DType::q5_0, false, 8},   {"q5_1", DType::q5_1, false, 9},  {"q4_k_m", DType::q4_k, true, 15},
    {"q5_k_m", DType::q5_k, true, 17}, {"q6_k", DType::q6_k, false, 18},
};

/// The layers whose sensitive matrices a mixture stores with more bits: the first and last eighths, and every third
/// between them.
bool has_more_bits(int64_t layer, int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

/// Before rows that are not whole blocks are looked at.
DType wanted_type(const Quantization& quantization, const GgufName& tensor, const ModelConfig& config) {
  const std::string_view name = tensor.name;
  const bool is_head =
      tensor.kind == ParameterKind::head || (tensor.kind == ParameterKind::embedding && config.tie_word_embeddings);
  if (is_head) {
    const bool whole = tensor.width() % storage(quantization.type).block == 0;
    return !whole || quantization.type == DType::q8_0 ? DType::q8_0 : DType::q6_k;
  }
  const bool more = quantization.mixed && has_more_bits(tensor.layer, config.num_hidden_layers);
  const bool eight = config.n_routed_experts == 8;  // attention is a small part of such a model
  if (name.ends_with("attn_v.weight")) return eight ? DType::q8_0 : (more ? DType::q6_k : quantization.type);
  if (name.ends_with("attn_k.weight") && eight) return DType::q8_0;
  if (name.ends_with("attn_output.weight") && eight && quantization.mixed && quantization.type == DType::q4_k) {
    return DType::q5_k;
  }
  return name.find("ffn_down") != std::string_view::npos && more ? DType::q6_k : quantization.type;
}

}  // namespace

std::span<const Quantization> quantizations() { return kQuantizations; }

const Quantization* find_quantization(std::string_view name) {
  const auto* const found = std::find_if(std::begin(kQuantizations), std::end(kQuantizations),
                                         [&](const Quantization& one) { return one.name == name; });
  return found == std::end(kQuantizations) ? nullptr : found;
}

DType gguf_type_of(const Quantization& quantization, const GgufName& tensor, const ModelConfig& config) {
  if (is_f32_in_gguf(tensor)) return DType::f32;
  return type_for_rows(wanted_type(quantization, tensor, config), tensor.width());
}

bool is_f32_in_gguf(const GgufName& tensor) {
  return tensor.kind == ParameterKind::norm || tensor.kind == ParameterKind::router || tensor.shape.size() == 1;
}

}  // namespace moe
