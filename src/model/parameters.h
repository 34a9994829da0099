#pragma once
/// The list of a model's parameters. It is written once, in visit_parameters(). The table of parameters, the binding of
/// weights to blocks and the names in files all come from it.

#include <optional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/layer_range.h"
#include "nn/head.h"
#include "nn/parameter.h"

namespace moe {

/// The parameters of a model (or their gradients), in the form that the blocks need.
struct ModelWeights {
  View embedding;  ///< [V, D]
  std::vector<DecoderWeights> layers;
  HeadWeights head;
};

/// Calls `visit` with every parameter, the layer it belongs to (-1: none), and the view of `weights` that holds it. The
/// order is fixed: embedding, layers, final norm, head (absent when tied). Routed experts are stacked: gate_up
/// [E, 2w, d], down [E, d, w]; q, k, v rows are one matrix.
void visit_parameters(const ModelConfig& config, ModelWeights& weights,
                      const std::function<void(int64_t layer, ParameterInfo info, View& view)>& visit);

struct Parameter : ParameterInfo {
  // ParameterInfo::name is the whole name here, for instance "layers.3.experts.gate_up".
  int64_t layer = -1;   ///< -1: outside the layers
  bool frozen = false;  ///< the run keeps its values (train/freeze.h)
  /// Of a matrix per expert: those that the run trains, ascending; empty: all. The others keep their values.
  std::vector<int64_t> experts = {};
  /// Of a matrix per expert: the number of the first of those that `shape` has, which are one rank's (divide_experts).
  int64_t first_expert = 0;

  /// True if it has a gradient and optimiser state, at least for some experts.
  bool trained() const { return learned && !frozen; }
  /// What trains of it, if it is trained(): `shape` with the experts that train. Gradients have this shape.
  Shape trained_shape() const;
  /// The experts that train as runs; for a matrix, or if all train, one run of all rows of the first axis.
  std::vector<ExpertRun> trained_runs() const;
  /// Elements of the whole parameter before those of `shape`.
  int64_t elements_before() const { return first_expert == 0 ? 0 : first_expert * (shape.elements() / shape[0]); }
  bool is_table() const { return start == InitialValue::table; }
  /// Where it is in a model of so many layers: its layer, `layers` behind the last one, -1 before the first one.
  int64_t place(int64_t layers) const { return place_of(role, layer, layers); }
  static int64_t place_of(ParameterRole role, int64_t layer, int64_t layers) {
    return layer < 0 && role != ParameterRole::embedding ? layers : layer;
  }
  /// Its stored type if the weights have the type `weights`.
  DType storage(DType weights) const;
};

/// All parameters, in the order of visit_parameters(). None is frozen.
std::vector<Parameter> parameter_table(const ModelConfig& config);

/// Leaves of the routed experts those of member `member` of `ranks` ranks, which have as many each.
void divide_experts(std::vector<Parameter>& table, int64_t member, int64_t ranks);

/// True if the stage with these layers has the parameter of this role and layer. If the head is the embedding, the
/// first and the last stage have it.
bool is_in_stage(const ModelConfig& config, ParameterRole role, int64_t layer, const LayerRange& stage);

/// Leaves what the stage with these layers has.
void keep_stage(std::vector<Parameter>& table, const ModelConfig& config, const LayerRange& stage);

int64_t count_elements(const std::vector<Parameter>& table);

/// `views` are in the order of the table. In a tied model the embedding is also the head's projection. With `stage`,
/// the views are those of keep_stage(), and the others are absent.
ModelWeights bind_weights(const ModelConfig& config, const std::vector<View>& views,
                          const std::optional<LayerRange>& stage = {});

/// The parameters of `table` that are no adapters: their views, in order, are those of the model without adapters.
std::vector<View> base_views(const std::vector<Parameter>& table, const std::vector<View>& views);

/// The initial value of an element (docs/paper.md section 1): 1 for norms, 0 for parameters that start at 0, uniform
/// for an adapter's A, else normal with the given standard deviation. It is a pure function of seed, parameter name and
/// element index. Tables come from nn/routers/hash_table.h.
void initial_values(const Parameter& parameter, uint64_t seed, double standard_deviation, int64_t begin, int64_t count,
                    float* values);

}  // namespace moe
