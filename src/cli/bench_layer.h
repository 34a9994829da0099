#pragma once
/// `moe bench layer`: a MoE layer alone, forward and backward.

#include "cli/bench_flags.h"

namespace moe {

/// Only the sizes of a MoE layer in `model` matter.
struct LayerFlags : BenchFlags {
  int64_t tokens = 4096;
  double skew = 0;
  int repeats = 5;
};

/// Prints the layer's time, its share of a large product's rate, and the part that is not products of experts. Beside
/// it prints a dense FFN with the same activated width.
void bench_layer(const LayerFlags& flags);

}  // namespace moe
