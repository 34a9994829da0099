#pragma once
/// One declarative list of a model's parameters, made from its config, that the loader, the saver, the optimiser and the
/// cost model all walk; and the weights as the blocks want them.

#include <string>
#include <vector>

#include "model/config.h"
#include "nn/head.h"

namespace moe {

/// What a parameter is to the cost model, the optimiser and the reader of a table.
enum class ParameterKind { embedding, head, norm, attention, dense_ffn, router, routed_experts, shared_experts };
const char* name(ParameterKind kind);

struct Parameter {
  std::string name;  ///< ours, for instance "layers.3.experts.gate_up"
  Shape shape;
  ParameterKind kind;
  int64_t layer = -1;  ///< -1: outside the layers

  /// Weight decay applies to matrices only; norms start at 1, matrices at a normal draw.
  bool is_matrix() const { return kind != ParameterKind::norm; }
};

/// All parameters in a fixed order: embedding, layers, final norm, head (absent when tied).
/// Routed experts are stacked: gate_up [E, 2w, d] (gate rows, then up rows), down [E, d, w]; q, k, v rows are one matrix.
std::vector<Parameter> parameter_table(const ModelConfig& config);

int64_t count_elements(const std::vector<Parameter>& table);

/// The parameters (or their gradients) of a model as the blocks take them.
struct ModelWeights {
  View embedding;  ///< [V, D]
  std::vector<DecoderWeights> layers;
  HeadWeights head;
};

/// `views` in the order of the table. Tied models get the embedding as the head's projection.
ModelWeights bind_weights(const ModelConfig& config, const std::vector<Parameter>& table, const std::vector<View>& views);

/// The initial value of an element (docs/paper.md section 1): 1 for norms, else normal with the given standard deviation; a pure
/// function of seed, parameter name and element index.
void initial_values(const Parameter& parameter, uint64_t seed, double standard_deviation, int64_t begin, int64_t count,
                    float* values);

}  // namespace moe
