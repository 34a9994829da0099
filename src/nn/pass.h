#pragma once
/// What every block needs in a forward or backward pass over one microbatch. A pass belongs to one thread.

#include "ops/backend.h"
#include "tensor/arena.h"

namespace moe {

struct Pass {
  Backend& backend;
  Arena& saved;    ///< memory from a block's forward until its backward
  Arena& scratch;  ///< memory within one block's forward or backward
  DType dtype;     ///< type of the activations: f32, bf16 or (in the oracle) f64
  /// False in the first microbatch of a step. Gradients of matrices are then overwritten, otherwise added to.
  bool accumulate_gradients = false;
  /// The number of logits that are computed at once in training. It decides how many rows the head's products have.
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
  View valid;          ///< i32 [T]: 0, or -1 for padding; the group for statistics over all tokens
  int64_t max_segment;
  int64_t row_length = 0;  ///< tokens in a batch row; 0 with a cache, where there are no rows
  /// Inference with a cache: the sequence of each token; absent otherwise.
  View sequence = {};  ///< i32 [T], -1: padding

  int64_t count() const { return ids.size(0); }
};

}  // namespace moe
