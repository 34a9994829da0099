#pragma once
/// The list of a model's parameters, made from its config. The loader, the saver, the optimiser and the cost model all
/// use this list. Also binds the weights to the blocks.

#include <string>
#include <vector>

#include "model/config.h"
#include "nn/head.h"

namespace moe {

/// The kind of a parameter, for the cost model, the optimiser and printed tables.
enum class ParameterKind {
  embedding,
  head,
  norm,
  attention,
  dense_ffn,
  router,
  light_router,  ///< StableMoE's light router, which learns only in the first stage
  router_state,  ///< a bias (f32) or a table (i32): part of the model, but without a gradient
  routed_experts,
  shared_experts
};
const char* name(ParameterKind kind);

struct Parameter {
  std::string name;  ///< our name, for instance "layers.3.experts.gate_up"
  Shape shape;
  ParameterKind kind;
  int64_t layer = -1;  ///< -1: outside the layers
  bool starts_at_zero = false;

  /// Weight decay applies to matrices only. Norms start at 1, matrices with normal draws.
  bool is_matrix() const { return kind != ParameterKind::norm; }
  /// True if it has a gradient and optimiser state.
  bool trained() const { return kind != ParameterKind::router_state; }
  bool is_table() const { return kind == ParameterKind::router_state && name.ends_with(".table"); }
  /// Its stored type if the weights have the type `weights`. Of blocks, norms and routers are f32, and rows that are
  /// not whole blocks get another type.
  DType storage(DType weights) const;
  /// True if its gradient is set to 0 at the beginning of a step and then added to. The gradients of other matrices are
  /// overwritten first.
  bool gradient_is_added(bool tied_embedding) const;
};

/// All parameters in a fixed order: embedding, layers, final norm, head (absent when tied).
/// Routed experts are stacked: gate_up [E, 2w, d] (gate rows, then up rows), down [E, d, w]; q, k, v rows are one
/// matrix.
std::vector<Parameter> parameter_table(const ModelConfig& config);

int64_t count_elements(const std::vector<Parameter>& table);

/// The parameters of a model (or their gradients), in the form that the blocks need.
struct ModelWeights {
  View embedding;  ///< [V, D]
  std::vector<DecoderWeights> layers;
  HeadWeights head;
};

/// `views` are in the order of the table. In a tied model the embedding is also the head's projection.
ModelWeights bind_weights(const ModelConfig& config, const std::vector<Parameter>& table,
                          const std::vector<View>& views);

/// The initial value of an element (docs/paper.md section 1): 1 for norms, 0 for parameters that start at 0, else
/// normal with the given standard deviation. It is a pure function of seed, parameter name and element index. Tables
/// come from nn/routers/hash_table.h.
void initial_values(const Parameter& parameter, uint64_t seed, double standard_deviation, int64_t begin, int64_t count,
                    float* values);

}  // namespace moe
