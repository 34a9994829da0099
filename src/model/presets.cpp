#include "model/presets.h"

#include <vector>

#include "base/error.h"

namespace moe {
namespace {

constexpr int64_t kHeadDim = 128;  // head size of all models of the paper
constexpr int64_t kStandard2B = 3456;

ModelConfig trunk(int64_t layers, int64_t hidden, int64_t vocabulary, int64_t length) {
  ModelConfig config;
  config.vocab_size = vocabulary;
  config.hidden_size = hidden;
  config.num_hidden_layers = layers;
  config.num_attention_heads = config.num_key_value_heads = hidden / kHeadDim;
  config.head_dim = kHeadDim;
  config.max_position_embeddings = length;
  return config;
}

ModelConfig dense(ModelConfig config, int64_t width) {
  config.intermediate_size = width;
  return config;
}

struct Experts {
  int64_t shared, routed, chosen, width;
};

/// The first layer is dense if `first_width` is given.
ModelConfig experts(ModelConfig config, Experts experts, int64_t first_width = 0) {
  config.n_shared_experts = experts.shared;
  config.n_routed_experts = experts.routed;
  config.num_experts_per_tok = experts.chosen;
  config.moe_intermediate_size = experts.width;
  config.intermediate_size = first_width;
  config.first_k_dense_replace = first_width > 0 ? 1 : 0;
  return config;
}

ModelConfig grouped_heads(ModelConfig config, int64_t key_value_heads) {
  config.num_key_value_heads = key_value_heads;
  return config;
}

ModelConfig hashed(ModelConfig config) {
  config.routing = RoutingMethod::hash;
  return config;
}

ModelConfig mixtral() {
  ModelConfig config = experts(grouped_heads(trunk(32, 4096, 32000, 4096), 8), {0, 8, 2, 14336});
  config.norm_topk_prob = true;
  return config;
}

/// Of DeepSeekMoE's class, with grouped heads.
ModelConfig gigachat() {
  ModelConfig config = experts(grouped_heads(trunk(28, 2048, 128256, 131072), 8), {2, 64, 6, 1792}, 14336);
  config.rms_norm_eps = 1e-5;
  config.rope_theta = 1.4e6;
  config.initializer_range = 0.02;  // the value of its class
  return config;
}

std::vector<Preset> make_presets() {
  const ModelConfig small = trunk(9, 1280, 8192, 2048);
  const ModelConfig large = trunk(62, 4096, 102400, 4096);
  return {
      {"dense-0.2b", "Dense 0.2B", dense(small, kStandard2B)},
      {"hash-2b", "Hash Layer 2B", hashed(experts(small, {0, 16, 1, kStandard2B}))},
      {"switch-2b", "Switch 2B", experts(small, {0, 16, 1, kStandard2B})},
      {"gshard-2b", "GShard 2B", experts(small, {0, 16, 2, kStandard2B})},
      {"gshard-1.2x", "GShard 2B, experts 1.2 times as wide", experts(small, {0, 16, 2, 4160})},
      {"gshard-1.5x", "GShard 2B, experts 1.5 times as wide", experts(small, {0, 16, 2, 5184})},
      {"dense-x4", "Dense, FFN 4 times as wide", dense(small, 4 * kStandard2B)},
      {"dense-x16", "Dense, FFN 16 times as wide", dense(small, 16 * kStandard2B)},
      {"deepseekmoe-2b", "DeepSeekMoE 2B", experts(small, {1, 63, 7, kStandard2B / 4})},
      {"deepseekmoe-2b-half", "DeepSeekMoE 2B, half activated", experts(small, {1, 63, 3, kStandard2B / 4})},
      {"deepseekmoe-16b", "DeepSeekMoE 16B", experts(trunk(28, 2048, 102400, 4096), {2, 64, 6, 1408}, 10944)},
      {"deepseekmoe-145b", "DeepSeekMoE 145B", experts(large, {4, 128, 12, 1408}, 16 * 1408)},
      {"deepseekmoe-142b-half", "DeepSeekMoE 142B, half activated", experts(large, {2, 128, 6, 1408}, 8 * 1408)},
      {"gshard-137b", "GShard 137B", experts(large, {0, 16, 2, 10944}, 2 * 10944)},
      {"deepseek-7b", "DeepSeek 7B", dense(trunk(30, 4096, 102400, 4096), 11008)},
      {"deepseek-67b", "DeepSeek 67B", dense(grouped_heads(trunk(95, 8192, 102400, 4096), 8), 22016)},
      {"llama2-7b", "LLaMA 2 7B", dense(trunk(32, 4096, 32000, 4096), 11008)},
      {"mixtral-8x7b", "Mixtral 8x7B", mixtral()},
      {"gigachat-20b-a3b", "GigaChat 20B-A3B", gigachat()},
  };
}

}  // namespace

std::span<const Preset> presets() {
  static const std::vector<Preset> all = make_presets();
  return all;
}

const Preset& find_preset(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Preset& preset : presets()) {
    if (preset.name == name) return preset;
    names.push_back(preset.name);
  }
  fail_usage("there is no preset {}, expected one of {}", name, fmt::join(names, ", "));
}

}  // namespace moe
