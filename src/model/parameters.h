#pragma once
/// One declarative list of a model's parameters, made from its config, that the loader, the saver, the optimiser and
/// the cost model all walk; and the weights as the blocks want them.

#include <string>
#include <vector>

#include "model/config.h"
#include "nn/head.h"

namespace moe {

/// What a parameter is to the cost model, the optimiser and the reader of a table.
enum class ParameterKind {
  embedding,
  head,
  norm,
  attention,
  dense_ffn,
  router,
  light_router,  ///< StableMoE's, which is learned in the first stage alone
  router_state,  ///< a bias (f32) or a table (i32): part of the model, but not learned by gradients
  routed_experts,
  shared_experts
};
const char* name(ParameterKind kind);

struct Parameter {
  std::string name;  ///< ours, for instance "layers.3.experts.gate_up"
  Shape shape;
  ParameterKind kind;
  int64_t layer = -1;  ///< -1: outside the layers
  bool starts_at_zero = false;

  /// Weight decay applies to matrices only; norms start at 1, matrices at a normal draw.
  bool is_matrix() const { return kind != ParameterKind::norm; }
  /// Has a gradient and an optimiser's state.
  bool trained() const { return kind != ParameterKind::router_state; }
  bool is_table() const { return kind == ParameterKind::router_state && name.ends_with(".table"); }
  /// The type that it is stored as beside weights of `weights`.
  DType storage(DType weights) const;
  /// Its gradient is added to what is there, from 0 at a step's begin; those of other matrices are overwritten first.
  bool gradient_is_added(bool tied_embedding) const;
};

/// All parameters in a fixed order: embedding, layers, final norm, head (absent when tied).
/// Routed experts are stacked: gate_up [E, 2w, d] (gate rows, then up rows), down [E, d, w]; q, k, v rows are one
/// matrix.
std::vector<Parameter> parameter_table(const ModelConfig& config);

int64_t count_elements(const std::vector<Parameter>& table);

/// The parameters (or their gradients) of a model as the blocks take them.
struct ModelWeights {
  View embedding;  ///< [V, D]
  std::vector<DecoderWeights> layers;
  HeadWeights head;
};

/// `views` in the order of the table. Tied models get the embedding as the head's projection.
ModelWeights bind_weights(const ModelConfig& config, const std::vector<Parameter>& table,
                          const std::vector<View>& views);

/// The initial value of an element (docs/paper.md section 1): 1 for norms, 0 for what starts there, else normal with
/// the given standard deviation; a pure function of seed, parameter name and element index. Tables are made by
/// nn/routers/hash_table.h.
void initial_values(const Parameter& parameter, uint64_t seed, double standard_deviation, int64_t begin, int64_t count,
                    float* values);

}  // namespace moe
