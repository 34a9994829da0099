#pragma once
/// A MoE layer alone, forward and backward, beside its products on sorted rows and a dense FFN with the same activated
/// width.

#include <vector>

#include "model/config.h"
#include "ops/backend.h"
#include "ops/device.h"

namespace moe {

/// Only the sizes of a MoE layer in `model` matter.
struct LayerWork {
  ModelConfig model;
  int64_t tokens = 0;
  DType dtype = DType::f32;
  double skew = 0;      ///< the score of expert e changes by -skew ln(e + 1)
  int repeats = 0;      ///< after one that is not timed
  int64_t product = 0;  ///< size of the square product to compare with; 0: none
};

/// Medians over the repeats.
struct LayerTimes {
  double layer = 0, products = 0, dense = 0;  ///< seconds
  double product_rate = 0;                    ///< FLOP/s; 0: not measured
  std::vector<int32_t> loads;                 ///< [E]: tokens that chose each expert
};

LayerTimes measure_layer(const LayerWork& work, Device& device, Backend& backend);

}  // namespace moe
