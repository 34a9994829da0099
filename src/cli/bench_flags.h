#pragma once
/// Options that all measurements of a model's parts share.

#include "backend/cuda/path.h"
#include "base/error.h"
#include "cli/device_option.h"
#include "model/config.h"

namespace moe {

/// The default is the shape that bench/peers/torch_step.py measures too.
struct BenchFlags {
  std::string config;  ///< a run file whose model replaces the default one; "": none
  ModelConfig model = {.vocab_size = 8192,
                       .hidden_size = 512,
                       .moe_intermediate_size = 344,
                       .num_hidden_layers = 8,
                       .num_attention_heads = 8,
                       .num_key_value_heads = 0,  // 0: the number of attention heads
                       .n_shared_experts = 1,
                       .n_routed_experts = 63,
                       .num_experts_per_tok = 7,
                       .bos_token_id = {},
                       .eos_token_id = {},
                       .pad_token_id = {}};
  int64_t product = 4096;  ///< size of the square product to compare with; 0: none
  std::string dtype = "f32";
  DeviceOptions device;
  std::string kernels = "automatic";  ///< a name of kCudaPaths
  int64_t memory_limit = 0;           ///< bytes of the device; 0: all that it has
  bool json = false;
};

/// Computes the sizes that the options leave open: key/value heads, head size, width of a dense layer.
inline void complete_sizes(BenchFlags& flags) {
  ModelConfig& model = flags.model;
  if (model.num_key_value_heads == 0) model.num_key_value_heads = model.num_attention_heads;
  if (model.num_attention_heads > 0 && model.hidden_size % model.num_attention_heads != 0) {
    fail_usage("--heads {}: expected a divisor of --hidden, {}", model.num_attention_heads, model.hidden_size);
  }
  if (model.num_attention_heads > 0) model.head_dim = model.hidden_size / model.num_attention_heads;
  if (flags.config.empty()) model.intermediate_size = model.moe_intermediate_size;  // with --experts 0
}

}  // namespace moe
