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

/// What backward makes again instead of reading what forward kept. All give the same bits.
enum class Rebuild {
  nothing,
  norms,  ///< results of norms: little work for its memory
  all     ///< also what one product makes: q, k and v, gate and up of dense FFNs
};
constexpr const char* name(Rebuild rebuild) {
  return rebuild == Rebuild::nothing ? "nothing" : rebuild == Rebuild::norms ? "norms" : "all";
}

struct Pass {
  Backend& backend;
  Arena& saved;    ///< memory from a block's forward until its backward
  Arena& scratch;  ///< memory within one block's forward or backward
  DType dtype;     ///< type of the activations: f32, bf16 or (in the oracle) f64
  /// False in the first microbatch of a step. Gradients of matrices are then overwritten, otherwise added to.
  bool accumulate_gradients = false;
  Rebuild rebuild = Rebuild::nothing;
  /// f64 [1]: where the experts' weight gradients add their squares when they are complete; absent: nowhere. Whoever
  /// needs the norm then need not read these gradients, which are most of a MoE model's.
  View gradient_squares = {};
  /// The number of logits that are computed at once in training. It decides how many rows the head's products have.
  int64_t logits_per_chunk = kLogitsPerChunk;
  AdapterDropout adapter_dropout = {};

  static constexpr int64_t kLogitsPerChunk = int64_t{8} << 20;

  /// The same pass with other memory for what is saved.
  Pass saving_in(Arena& other) const {
    return {.backend = backend,
            .saved = other,
            .scratch = scratch,
            .dtype = dtype,
            .accumulate_gradients = accumulate_gradients,
            .rebuild = rebuild,
            .gradient_squares = gradient_squares,
            .logits_per_chunk = logits_per_chunk,
            .adapter_dropout = adapter_dropout};
  }

  DType stat() const { return stat_dtype(dtype); }
  View save(std::string_view name, Shape shape) { return saved.push(name, dtype, shape); }
  View temporary(std::string_view name, Shape shape) { return scratch.push(name, dtype, shape); }
  /// What a norm or a product makes: kept for backward, unless backward rebuilds what `part` names.
  View save_or_rebuild(Rebuild part, std::string_view name, Shape shape) {
    return rebuilds(part) ? temporary(name, shape) : save(name, shape);
  }
  /// `view` if it outlives the forward pass, else an absent one.
  View unless_rebuilt(Rebuild part, View view) const { return rebuilds(part) ? View{} : view; }
  bool rebuilds(Rebuild part) const { return rebuild >= part; }
};

}  // namespace moe
