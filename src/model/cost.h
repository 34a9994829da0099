#pragma once
/// Parameters and floating-point operations of a model of any size, from its config alone (docs/paper.md section 3). L
/// layers, d hidden size, H heads of size h, s sequence length. FLOPs and bytes are doubles, so that contexts of any
/// length fit. They are exact up to 2^53.

#include <array>

#include "model/parameters.h"

namespace moe {

constexpr std::array kParameterKinds{ParameterKind::embedding,      ParameterKind::head,
                                     ParameterKind::norm,           ParameterKind::attention,
                                     ParameterKind::dense_ffn,      ParameterKind::router,
                                     ParameterKind::light_router,   ParameterKind::router_state,
                                     ParameterKind::routed_experts, ParameterKind::shared_experts};

/// Several threads may read it.
class ParameterCounts {
 public:
  explicit ParameterCounts(const ModelConfig& config);

  /// The parameters of a kind, and those of them that one token uses: K of the E routed experts, and all others.
  int64_t stored(ParameterKind kind) const { return stored_[index(kind)]; }
  int64_t activated(ParameterKind kind) const;
  /// All parameters, including routers.
  int64_t stored() const;
  int64_t activated() const;
  /// The paper's totals count both embeddings, but not the routers.
  int64_t paper_total() const { return stored() - routers(); }
  int64_t paper_activated() const { return activated() - routers(); }
  int64_t routers() const {
    return stored(ParameterKind::router) + stored(ParameterKind::light_router) + stored(ParameterKind::router_state);
  }
  /// A: the parameters of the matrices that a token is multiplied with. This includes the head (also a tied one), but
  /// neither the input embedding nor the router.
  int64_t multiplied() const;

 private:
  static size_t index(ParameterKind kind) { return static_cast<size_t>(kind); }

  std::array<int64_t, kParameterKinds.size()> stored_{};
  int64_t head_ = 0;
  int64_t experts_ = 0;
  int64_t chosen_ = 0;
};

/// Floating-point operations of forward and backward for one sequence, by the paper's convention:
///   6 A s + 12 L s^2 H h, attention not halved for causality, the router left out. (H h is d in the paper's models.)
double paper_flops(const ModelConfig& config, int64_t sequence_length);

/// The products that are computed: 6 (A + router) s + 6 L s (s + 1) H h. A forward pass is one third of this.
/// Recomputation and element-wise work are not counted. MFU is computed with this number.
double exact_flops(const ModelConfig& config, int64_t sequence_length);

/// The products of a prompt's pass through the model. Only the last row goes through the head:
///   2 (A + router) s + 2 L s (s + 1) H h - 2 (s - 1) V d.
double prompt_flops(const ModelConfig& config, int64_t tokens);

/// The bytes that one token has to read: the weights of type `dtype` that it activates (with one row of the input
/// embedding), and the keys and values of the `positions` that it attends to. These have the type of
/// activations beside such weights.
double token_bytes(const ModelConfig& config, DType dtype, int64_t positions);

/// The bytes of keys and values of this type for each token of a sequence.
double position_bytes(const ModelConfig& config, DType cache);

}  // namespace moe
