#pragma once
/// The layers of a stage.

#include <algorithm>
#include <cstdint>

namespace moe {

/// Layers [begin, end), of which a stage of a pipeline has at least one.
struct LayerRange {
  int64_t begin = 0, end = 0;

  /// True if the stage with these layers has what is at this place of a model of `layers` layers (Parameter::place):
  /// the first stage also has what is before the layers, the last one what is behind them.
  bool has(int64_t place, int64_t layers) const {
    const int64_t layer = std::clamp<int64_t>(place, 0, layers - 1);
    return layer >= begin && layer < end;
  }
};

}  // namespace moe
