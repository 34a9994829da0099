#pragma once
/// Multi-head attention (docs/paper.md section 1): q, k, v = x Wq^T, x Wk^T, x Wv^T;  rope on q and k (after a norm, in
/// some families);
/// a = causal_attention(q, k, v);  y = a Wo^T.
/// T tokens, D hidden size, Hq query heads, Hkv key/value heads, h head size.

#include "nn/layer_context.h"
#include "nn/linear.h"

namespace moe {

/// A norm of q and of k before the rotation.
enum class QkNorm {
  none,
  each_head,  ///< of each head by itself; all heads have one gain
  all_heads,  ///< of all heads together
};

struct AttentionConfig {
  int64_t hidden;
  int heads;
  int kv_heads;
  int64_t head_dim;
  QkNorm norm = QkNorm::none;
  float norm_eps = 0;

  int64_t q_width() const { return heads * head_dim; }
  int64_t kv_width() const { return kv_heads * head_dim; }
  int64_t qkv_width() const { return q_width() + 2 * kv_width(); }
};

/// Weights, or their gradients.
struct AttentionWeights {
  Linear qkv;        ///< [(Hq + 2 Hkv) h, D]: rows of q, then k, then v
  Linear output;     ///< [D, Hq h]
  View q_norm = {};  ///< with QkNorm: [h], or of all heads [Hq h]
  View k_norm = {};  ///< [h], or [Hkv h]
};

struct AttentionSaved {
  View qkv;           ///< [T, (Hq + 2 Hkv) h], rotated, or with QkNorm as projected; absent if the pass rebuilds it
  View out;           ///< [T, Hq h]
  View lse;           ///< stat [T, Hq]
  View rotated = {};  ///< with QkNorm: [T, (Hq + Hkv) h], normalised and rotated; absent if the pass rebuilds it
  View inv_rms = {};  ///< with QkNorm: stat [norms, T], of each norm of q, then of k
};

/// With `cache`, appends the tokens' keys and values to the cache and attends to it. Otherwise attends to the
/// microbatch's own documents.
AttentionSaved attention_forward(Pass& pass, const AttentionConfig& config, const AttentionWeights& weights,
                                 const TokenViews& tokens, const LayerCache* cache, View x, View y);

/// dx (overwritten) and the gradients of the weights, from dy. dx is absent if nobody needs it.
void attention_backward(Pass& pass, const AttentionConfig& config, const AttentionWeights& weights,
                        const AttentionWeights& gradients, const TokenViews& tokens, const AttentionSaved& saved,
                        View x, View dy, View dx);

}  // namespace moe
