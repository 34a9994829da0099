#pragma once
/// A model whose sizes suit the tensor cores, and rows of documents for it.

#include "backend/cuda/cuda_device.h"
#include "tests/support/machines.h"
#include "tests/support/tiny_model.h"

namespace moe {

/// d 128, 3 layers (the first dense), 2 query heads of 64 on 1, 1 shared and 8 routed experts of width 64, K 3.
inline ModelConfig gpu_config() {
  ModelConfig config;
  config.vocab_size = 264;
  config.hidden_size = 128;
  config.intermediate_size = 192;
  config.moe_intermediate_size = 64;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;
  config.head_dim = 64;
  config.n_shared_experts = 1;
  config.n_routed_experts = 8;
  config.num_experts_per_tok = 3;
  config.first_k_dense_replace = 1;
  config.max_position_embeddings = 512;
  return config;
}

constexpr int kGpuLength = 200;
inline const std::vector<std::vector<int>> kGpuRows = {{200}, {70, 100}, {1, 2, 150, 47}, {64, 64, 72}};

}  // namespace moe
