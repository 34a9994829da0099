#pragma once
/// What every block needs in a forward or backward pass over one microbatch.

#include "ops/backend.h"
#include "tensor/arena.h"

namespace moe {

struct Pass {
  Backend& backend;
  Arena& saved;    ///< lives from a block's forward to its backward
  Arena& scratch;  ///< lives within one block's forward or backward
  DType dtype;     ///< activations: f32, bf16 or (on the oracle) f64
  /// False in the first microbatch of a step: matrix gradients are then overwritten instead of added to.
  bool accumulate_gradients = false;
  /// Logits computed at once in training: the head's products have as many rows as this allows.
  int64_t head_logits = kHeadLogits;

  static constexpr int64_t kHeadLogits = int64_t{8} << 20;

  DType stat() const { return stat_dtype(dtype); }
  View save(std::string_view name, Shape shape) { return saved.push(name, dtype, shape); }
  View temporary(std::string_view name, Shape shape) { return scratch.push(name, dtype, shape); }
};

/// The tokens of one microbatch, on the device. T tokens, padding included.
struct TokenViews {
  View ids;            ///< i32 [T]
  View targets = {};   ///< i32 [T], negative: no loss; absent in inference
  View positions;      ///< i32 [T], from 0 in every document
  View rope;           ///< stat [T, h]: RopeTable of positions
  View segment_start;  ///< i32 [T], -1: padding (Attention)
  View valid;          ///< i32 [T]: 0, or -1 for padding: the group of statistics that cover all tokens
  int64_t max_segment;
  int64_t row_length = 0;  ///< tokens of a batch row; 0: with a cache there are no rows
  /// Inference with a cache: the sequence of each token; absent otherwise.
  View sequence = {};  ///< i32 [T], -1: padding

  int64_t count() const { return ids.size(0); }
};

/// y = x W^T.
inline void linear(Pass& pass, View x, View weight, View y, bool accumulate = false) {
  pass.backend.run(Gemm{.a = x, .b = weight, .c = y, .transpose_b = true, .accumulate = accumulate});
}

/// dW += dy^T x (overwritten in a step's first microbatch).
inline void linear_weight_gradient(Pass& pass, View dy, View x, View d_weight) {
  pass.backend.run(Gemm{.a = dy, .b = x, .c = d_weight, .transpose_a = true, .accumulate = pass.accumulate_gradients});
}

/// dx = dy W, or dx += dy W.
inline void linear_input_gradient(Pass& pass, View dy, View weight, View dx, bool accumulate = false) {
  pass.backend.run(Gemm{.a = dy, .b = weight, .c = dx, .accumulate = accumulate});
}

}  // namespace moe
