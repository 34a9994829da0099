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

/// A factor of each row of an FFN's result; absent: 1.
struct RowScale {
  View scale = {};  ///< stat [T]
  View index = {};  ///< i32 [T]: 0, 1, 2 ...
};

/// y = scale * FFN(x); returns the saved x [Wg | Wu]^T [T, 2F], absent if the pass rebuilds it.
View ffn_forward(Pass& pass, const FfnWeights& weights, View x, View y, const RowScale& rows = {});

/// dx (overwritten) and the gradients of the weights, from dy. `gate_up` (the result of forward) is overwritten. If it
/// is absent, it is made again. `d_scale` (stat [T]) gets the gradient of the factors; it is present exactly when they
/// are.
void ffn_backward(Pass& pass, const FfnWeights& weights, const FfnWeights& gradients, View gate_up, View x, View dy,
                  View dx, const RowScale& rows = {}, View d_scale = {});

}  // namespace moe
