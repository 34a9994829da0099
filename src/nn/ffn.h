#pragma once
/// The SwiGLU feed-forward network (docs/paper.md section 1): y = (silu(x Wg^T) * (x Wu^T)) Wd^T. T tokens, D hidden
/// size, F width. It is used for the FFN of dense layers and for the shared experts (one FFN of width K_s * w).

#include "nn/linear.h"

namespace moe {

/// Weights, or their gradients.
struct FfnWeights {
  Linear gate_up;  ///< [2F, D]: rows of the gate, then of the up projection
  Linear down;     ///< [D, F]

  explicit operator bool() const { return static_cast<bool>(gate_up); }
  int64_t width() const { return down.inputs(); }
};

/// y = FFN(x); returns the saved x [Wg | Wu]^T [T, 2F], absent if the pass rebuilds it.
View ffn_forward(Pass& pass, const FfnWeights& weights, View x, View y);

/// dx (overwritten) and the gradients of the weights, from dy. `gate_up` (the result of forward) is overwritten. If it
/// is absent, it is made again.
void ffn_backward(Pass& pass, const FfnWeights& weights, const FfnWeights& gradients, View gate_up, View x, View dy,
                  View dx);

}  // namespace moe
