#pragma once
/// The DeepSeekMoE layer, docs/paper.md eq. (9): y_t = shared FFN(x_t) (in some families times sigmoid(s . x_t)) + sum
/// over chosen i of g_{i,t} FFN_i(x_t). T tokens, D hidden size, E routed experts of width F, S choice slots per token,
/// R rows sorted by expert.

#include "nn/expert_ranks.h"
#include "nn/ffn.h"
#include "nn/layer_context.h"

namespace moe {

struct MoeConfig {
  int64_t hidden;  ///< D
  int64_t width;   ///< F
  RouterConfig router;
  BalanceConfig balance;
  ExpertRanks ranks = {};  ///< that have other experts of the layer
};

/// Weights, or their gradients.
struct MoeWeights {
  RouterWeights router;
  Linear gate_up;      ///< [E, 2F, D]; of some ranks, each has E / W of them
  Linear down;         ///< [E, D, F], likewise
  FfnWeights shared;   ///< the K_s shared experts as one FFN; absent when K_s = 0
  Linear shared_gate;  ///< [1, D]: s, whose product with x gates the shared experts; mostly absent
};

struct MoeSaved {
  Route route;
  View gate_up;                          ///< [R, 2F]
  View gate_up_low = {}, down_low = {};  ///< of adapters (nn/adapter.h)
  View shared_gate_up;                   ///< [T, 2 K_s F]
  View shared_scale = {};                ///< stat [T, 1]: sigmoid(s . x)
  GroupTokens group = {};                ///< of ranks that divide the experts, in training
};

/// y = residual + MoE(x). The choice of `context` is filled; with `replay` it is read.
MoeSaved moe_forward(Pass& pass, const MoeConfig& config, const MoeWeights& weights, const LayerContext& context,
                     View x, View residual, View y);

/// dx (overwritten) and the gradients of the weights, from dy. The caller handles the gradient of the residual. Uses up
/// `saved`.
void moe_backward(Pass& pass, const MoeConfig& config, const MoeWeights& weights, const MoeWeights& gradients,
                  const LayerContext& context, const MoeSaved& saved, View x, View dy, View dx);

}  // namespace moe
