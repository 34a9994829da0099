#pragma once
/// The experts and gates of every token of one text, for people and for programs.

#include <vector>

#include "formats/json.h"
#include "infer/model_on_device.h"
#include "tokenizer/tokenizer.h"

namespace moe {

/// L MoE layers, T tokens, S choice slots.
struct TokenTrace {
  std::vector<int32_t> ids;     ///< [T]
  std::vector<float> losses;    ///< [T - 1]: the cross-entropy of tokens 1, 2 ... after those before them
  std::vector<int32_t> chosen;  ///< [L, T, S], before any choice is dropped; -1: no expert in that slot
  std::vector<float> gates;     ///< in the same order

  int64_t tokens() const { return static_cast<int64_t>(ids.size()); }
};

/// An expert of a token and its gate.
struct GatedExpert {
  int32_t expert = 0;
  float gate = 0;
};

/// One pass over the ids as one document. Refuses more of them than max_position_embeddings, and a model without routed
/// experts. Throws an Error if a number is not finite.
TokenTrace trace_tokens(const ModelOnDevice& runtime, std::vector<int32_t> ids);

/// The experts of a token in a MoE layer (numbered from 0 among MoE layers), the largest gate first.
std::vector<GatedExpert> experts_of(const TokenTrace& trace, const ModelConfig& config, int64_t moe_layer,
                                    int64_t token);

/// {"experts": E, "tokens": [{"id", "text", "loss"}], "layers": [{"layer", "counts": [E], "tokens": [[[expert,
/// gate]]]}]}. The first token has the loss null. Layers are numbered as in the model.
Json trace_json(const TokenTrace& trace, const ModelConfig& config, const Tokenizer& tokenizer);

/// For each of the model's layers in `layers` (empty: all MoE layers) the text, token by token, with experts and gates.
/// `colours`: with the colours of a terminal, one for each expert.
std::string trace_text(const TokenTrace& trace, const ModelConfig& config, const Tokenizer& tokenizer,
                       const std::vector<int64_t>& layers, bool colours);

}  // namespace moe
