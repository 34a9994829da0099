#pragma once
/// What every block needs in a forward or backward pass over one microbatch. A pass belongs to one thread.

#include "batch/token_views.h"
#include "ops/backend.h"
#include "tensor/arena.h"

namespace moe {

/// The dropout of adapters in training, whose draws depend on the place in the run alone.
struct AdapterDropout {
  float probability = 0;  ///< 0: nothing is dropped
  uint64_t seed = 0;
  int64_t step = 0;
  int64_t first_token = 0;  ///< index in the step of the first row of x
};

struct Pass {
  Backend& backend;
  Arena& saved;    ///< memory from a block's forward until its backward
  Arena& scratch;  ///< memory within one block's forward or backward
  DType dtype;     ///< type of the activations: f32, bf16 or (in the oracle) f64
  /// False in the first microbatch of a step. Gradients of matrices are then overwritten, otherwise added to.
  bool accumulate_gradients = false;
  /// True if backward makes again what one norm or one product makes (the results of norms, q, k and v, gate and up of
  /// dense FFNs), so that it is not kept. The same bits, less memory.
  bool rebuild = false;
  /// f64 [1]: where the experts' weight gradients add their squares when they are complete; absent: nowhere. Whoever
  /// needs the norm then need not read these gradients, which are most of a MoE model's.
  View gradient_squares = {};
  /// The number of logits that are computed at once in training. It decides how many rows the head's products have.
  int64_t logits_per_chunk = kLogitsPerChunk;
  AdapterDropout adapter_dropout = {};

  static constexpr int64_t kLogitsPerChunk = int64_t{8} << 20;

  DType stat() const { return stat_dtype(dtype); }
  View save(std::string_view name, Shape shape) { return saved.push(name, dtype, shape); }
  View temporary(std::string_view name, Shape shape) { return scratch.push(name, dtype, shape); }
  /// What is kept for backward, unless backward rebuilds it.
  View save_or_rebuild(std::string_view name, Shape shape) {
    return rebuild ? temporary(name, shape) : save(name, shape);
  }
  /// `view` if it outlives the forward pass, else an absent one.
  View unless_rebuilt(View view) const { return rebuild ? View{} : view; }
};

}  // namespace moe
