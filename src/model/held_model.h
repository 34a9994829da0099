#pragma once
/// A model, or the part of it that a rank has, before any rank is there.

#include "model/layout.h"
#include "model/parameters.h"

namespace moe {

/// The part of a model that one rank of a layout has; of a layout of one rank, all of it.
struct HeldModel {
  HeldModel(const ModelConfig& model)
      : config(model) {}  // NOLINT(google-explicit-constructor): a model alone is all of it
  /// The layout has no data parallel ranks: they would hold the same.
  HeldModel(const ModelConfig& model, const Layout& of_layout, int64_t of_rank)
      : config(model), layout(of_layout), rank(of_rank) {}

  ModelConfig config;  ///< of the whole model
  Layout layout = {};
  int64_t rank = 0;

  LayerRange layers() const;
  int64_t layer_count() const { return layers().end - layers().begin; }
  /// The routed experts of each of its MoE layers, [begin, end).
  LayerRange experts() const;
  /// Leaves of a table of the whole model what this part has.
  void keep(std::vector<Parameter>& table) const;
  /// The first rank of each stage, in order. All ranks of a stage hold as much, and the first one has most to compute.
  std::vector<HeldModel> stages() const;
};

/// The most bytes that any rank of its layout needs, by what `bytes` says of one.
template <class Bytes>
int64_t most_bytes_of_ranks(const HeldModel& held, const Bytes& bytes) {
  int64_t most = 0;
  for (const HeldModel& one : held.stages()) most = std::max<int64_t>(most, bytes(one));
  return most;
}

}  // namespace moe
