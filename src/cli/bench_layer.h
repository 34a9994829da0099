#pragma once
/// The MoE layer alone, forward and backward: `moe bench layer`.

#include "cli/bench_flags.h"

namespace moe {

/// Of `model` only the sizes of a MoE layer count.
struct LayerFlags : BenchFlags {
  int64_t tokens = 4096;
  double skew = 0;
  int repeats = 5;
};

/// Prints the layer's time and share of a large product's rate, what is not expert products in it, and beside it a
/// dense FFN of the same activated width.
void bench_layer(const LayerFlags& flags);

}  // namespace moe
