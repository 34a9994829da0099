#pragma once
/// The MoE layer alone, forward and backward: `moe bench layer`.

#include "cli/device_option.h"
#include "model/config.h"

namespace moe {

/// Of `model` only the sizes of a MoE layer count.
struct LayerFlags {
  std::string config;  ///< a run file whose model takes the place of the default one; "": none
  ModelConfig model;
  int64_t tokens = 4096;
  double skew = 0;
  int repeats = 5;
  int64_t product = 4096;  ///< size of the square product to compare with; 0: none
  std::string dtype = "f32";
  DeviceOptions device;
  bool json = false;
};

/// Prints the layer's time and share of a large product's rate, what is not expert products in it, and beside it a dense
/// FFN of the same activated width.
void bench_layer(const LayerFlags& flags);

}  // namespace moe
