#pragma once
/// What the measurements of a model's parts have in common.

#include "cli/device_option.h"
#include "model/config.h"

namespace moe {

/// Defaults: the shape that bench/peers/torch_step.py measures too.
struct BenchFlags {
  std::string config;  ///< a run file whose model takes the place of the default one; "": none
  ModelConfig model = {.vocab_size = 8192,
                       .hidden_size = 512,
                       .moe_intermediate_size = 344,
                       .num_hidden_layers = 8,
                       .num_attention_heads = 8,
                       .num_key_value_heads = 0,  // 0: as many as attention heads
                       .n_shared_experts = 1,
                       .n_routed_experts = 63,
                       .num_experts_per_tok = 7,
                       .bos_token_id = {},
                       .eos_token_id = {},
                       .pad_token_id = {}};
  int64_t product = 4096;  ///< size of the square product to compare with; 0: none
  std::string dtype = "f32";
  DeviceOptions device;
  bool json = false;
};

}  // namespace moe
