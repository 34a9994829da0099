#pragma once
/// The types that a GGUF file's tensors get: one type, or one of llama.cpp's mixtures.

#include <optional>
#include <span>
#include <string_view>

#include "checkpoint/gguf_names.h"

namespace moe {

/// A way of quantising a whole model.
struct Quantization {
  const char* name;  ///< "q4_k_m"
  DType type;        ///< of most matrices
  bool mixed;        ///< some layers' values and down projections get q6_k instead
  uint32_t number;   ///< general.file_type
};

std::span<const Quantization> quantizations();
/// Null if there is none of this name.
const Quantization* find_quantization(std::string_view name);

/// The type that llama.cpp's own program gives the tensor. Norms and routers are f32. The head, or the embedding of a
/// tied model, is q6_k, unless everything is q8_0. Rows that are not whole blocks get another type
/// (StorageType::other_rows; of the head q8_0).
DType gguf_type_of(const Quantization& quantization, const GgufName& tensor, const ModelConfig& config);

/// Norms, routers and other vectors, which are f32 in every file.
bool is_f32_in_gguf(const GgufName& tensor);

}  // namespace moe
