#pragma once
/// How the ranks of a run share a model: data parallel x expert parallel x pipeline (docs/parallelism.md).

#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "model/layer_range.h"

namespace moe {

/// DP x EP x PP ranks. The layers are divided into PP stages of DP x EP ranks. Every rank of a stage computes rows of
/// its own, and has all that is not a routed expert of its stage. EP ranks share the routed experts of a layer, each
/// with as many neighbouring ones; DP ranks of a stage have the same experts.
struct Layout {
  int64_t data = 1;      ///< DP
  int64_t expert = 1;    ///< EP
  int64_t pipeline = 1;  ///< PP

  int64_t stage_ranks() const { return data * expert; }
  int64_t ranks() const { return data * expert * pipeline; }
  bool operator==(const Layout&) const = default;
};

/// The place of a rank in a layout. Ranks that share experts are neighbours; a stage's ranks follow each other.
struct LayoutPosition {
  int64_t stage = 0, data = 0, expert = 0;
};

/// rank = (stage * DP + data) * EP + expert.
LayoutPosition position_of(const Layout& layout, int64_t rank);

/// The layers of each stage, in order: the first stages have one more if they cannot have equally many.
std::vector<LayerRange> stage_layers(int64_t layers, int64_t stages);

/// "dp=2,ep=4,pp=1".
std::string text_of(const Layout& layout);

/// The layout with this text. A part that is not given is 1. Other text is a UsageError.
Layout parse_layout(std::string_view text);

/// Refuses a layout of another number of ranks, and one that does not divide the model.
void check_layout(const ModelConfig& config, const Layout& layout, int64_t ranks);

/// All layouts of `ranks` ranks that divide the model, with at most `most_expert` ranks for the experts of a layer.
std::vector<Layout> layouts_of(const ModelConfig& config, int64_t ranks, int64_t most_expert);

}  // namespace moe
