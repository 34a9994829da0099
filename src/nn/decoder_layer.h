#pragma once
/// One pre-norm decoder layer, docs/paper.md eq. (1)-(2): u = h + Attention(RMSNorm(h)),  h' = u + FFN(RMSNorm(u)),
/// where FFN is a dense SwiGLU network or a MoE layer. T tokens, D hidden size.

#include "nn/attention.h"
#include "nn/moe.h"

namespace moe {

struct DecoderConfig {
  AttentionConfig attention;
  MoeConfig moe;
  float norm_eps;
};

/// Weights, or their gradients. Exactly one of ffn and moe is present.
struct DecoderWeights {
  View attention_norm;  ///< [D]
  AttentionWeights attention;
  View ffn_norm;  ///< [D]
  FfnWeights ffn;
  MoeWeights moe;

  bool is_moe() const { return static_cast<bool>(moe.gate_up); }
};

/// What is kept from forward to backward.
struct DecoderSaved {
  View attention_input, attention_inv_rms;  ///< RMSNorm(h), absent if the pass rebuilds it, and its statistics
  AttentionSaved attention;
  View middle;                  ///< u
  View ffn_input, ffn_inv_rms;  ///< RMSNorm(u), likewise
  View ffn_gate_up;
  MoeSaved moe;
};

/// h_out = the layer's output for the residual stream h [T, D].
DecoderSaved decoder_forward(Pass& pass, const DecoderConfig& config, const DecoderWeights& weights,
                             const LayerContext& context, View h, View h_out);

/// Turns d [T, D] from the gradient of h_out into the gradient of h, and computes the gradients of the weights. Uses up
/// `saved`. Without `down`, nobody needs the gradient of h, and d becomes something between.
void decoder_backward(Pass& pass, const DecoderConfig& config, const DecoderWeights& weights,
                      const DecoderWeights& gradients, const LayerContext& context, const DecoderSaved& saved, View h,
                      View d, bool down = true);

}  // namespace moe
