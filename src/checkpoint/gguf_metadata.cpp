// What a GGUF file says of a model, and what it cannot say.

#include "base/error.h"
#include "checkpoint/write_gguf.h"

namespace moe {
namespace {

[[noreturn]] void cannot(const std::string& what) {
  fail("GGUF has no form for this model: {}; llama.cpp would compute something else", what);
}

/// Routing that only this program computes.
void check_routing(const ModelConfig& config) {
  const ModelConfig plain;
  if (config.routing != plain.routing)
    cannot(fmt::format("routing is \"{}\", expected \"topk\"", name(config.routing)));
  if (config.scoring_func != plain.scoring_func) {
    cannot(fmt::format("scoring_func is \"{}\", expected \"softmax\"", name(config.scoring_func)));
  }
  if (config.topk_method != plain.topk_method) {
    cannot(fmt::format("topk_method is \"{}\", expected \"greedy\"", name(config.topk_method)));
  }
  if (config.eval_capacity_factor != 0) {
    cannot(fmt::format("eval_capacity_factor is {}, expected 0: experts drop no token", config.eval_capacity_factor));
  }
}

/// The settings that are the same for all architectures.
void add_common(const ModelConfig& config, const std::string& prefix, std::vector<GgufEntry>& entries) {
  const auto add = [&](const char* key, int64_t value) {
    MOE_CHECK(value >= 0 && value <= UINT32_MAX);
    entries.push_back({prefix + key, GgufValue::u32(static_cast<uint32_t>(value))});
  };
  add("context_length", config.max_position_embeddings);
  add("embedding_length", config.hidden_size);
  add("block_count", config.num_hidden_layers);
  add("attention.head_count", config.num_attention_heads);
  add("attention.head_count_kv", config.num_key_value_heads);
  add("attention.key_length", config.head_dim);
  add("attention.value_length", config.head_dim);
  add("rope.dimension_count", config.head_dim);
  add("vocab_size", config.vocab_size);
  entries.push_back(
      {prefix + "attention.layer_norm_rms_epsilon", GgufValue::f32(static_cast<float>(config.rms_norm_eps))});
  entries.push_back({prefix + "rope.freq_base", GgufValue::f32(static_cast<float>(config.rope_theta))});
  if (config.moe_layers() == 0) return add("feed_forward_length", config.intermediate_size);
  add("expert_count", config.n_routed_experts);
  add("expert_used_count", config.num_experts_per_tok);
}

bool is_every_layer_moe(const ModelConfig& config) { return config.moe_layers() == config.num_hidden_layers; }

}  // namespace

namespace {

/// The architecture of a model with norms of q and k, or biases: one for each form.
std::string other_architecture(const ModelConfig& config) {
  if (!is_every_layer_moe(config)) cannot("some layers are dense");
  const bool normed = config.norm_topk_prob && config.num_experts_per_tok > 1;
  if (config.qk_norm == QkNorm::each_head) {
    if (!normed)
      cannot("norm_topk_prob is false (or num_experts_per_tok 1), expected gates that are divided by their sum");
    return "qwen3moe";
  }
  if (normed) cannot("norm_topk_prob is true, expected false");
  if (config.tie_word_embeddings) cannot("tie_word_embeddings is true, expected a head of its own");
  if (config.head_dim * config.num_attention_heads != config.hidden_size)
    cannot("the heads are not as wide as the model");
  if (config.qk_norm == QkNorm::none) return "qwen2moe";
  if (config.num_key_value_heads != config.num_attention_heads) {
    cannot(fmt::format("num_key_value_heads is {}, expected {} beside a norm of all heads", config.num_key_value_heads,
                       config.num_attention_heads));
  }
  return "olmoe";
}

}  // namespace

std::string gguf_architecture(const ModelConfig& config) {
  const bool other = config.qk_norm != QkNorm::none || config.qkv_bias || config.gated_shared_expert;
  if (config.moe_layers() == 0 && !other) return "llama";
  check_routing(config);
  if (other) return other_architecture(config);
  const bool normed = config.norm_topk_prob && config.num_experts_per_tok > 1;
  if (config.n_shared_experts == 0) {
    if (!normed) {
      cannot(
          "without shared experts the gates must be divided by their sum (norm_topk_prob true, num_experts_per_tok 2 "
          "or "
          "more)");
    }
    if (!is_every_layer_moe(config)) cannot("some layers are dense and there is no shared expert");
    if (config.routed_scaling_factor != 1) {
      cannot(fmt::format("routed_scaling_factor is {}, expected 1", config.routed_scaling_factor));
    }
    return "llama";
  }
  if (normed) cannot("norm_topk_prob is true beside shared experts, expected false");
  if (config.moe_layer_freq != 1) cannot(fmt::format("moe_layer_freq is {}, expected 1", config.moe_layer_freq));
  if (config.head_dim * config.num_attention_heads != config.hidden_size) {
    cannot(fmt::format("{} heads of {} are not as wide as the model, {}", config.num_attention_heads, config.head_dim,
                       config.hidden_size));
  }
  return "deepseek";
}

std::vector<GgufEntry> gguf_metadata(const ModelConfig& config) {
  const std::string architecture = gguf_architecture(config), prefix = architecture + ".";
  std::vector<GgufEntry> entries = {{"general.architecture", GgufValue::text(architecture)}};
  add_common(config, prefix, entries);
  if (config.moe_layers() == 0) return entries;
  const auto add = [&](const char* key, int64_t value) {
    entries.push_back({prefix + key, GgufValue::u32(static_cast<uint32_t>(value))});
  };
  if (architecture == "llama" || architecture == "olmoe") {
    add("feed_forward_length", config.moe_intermediate_size);
    return entries;
  }
  if (architecture != "deepseek") {
    if (config.intermediate_size > 0) add("feed_forward_length", config.intermediate_size);
    add("expert_feed_forward_length", config.moe_intermediate_size);
    if (config.gated_shared_expert) add("expert_shared_feed_forward_length", config.shared_width());
    return entries;
  }
  constexpr int64_t kSoftmax = 1;
  if (!is_every_layer_moe(config)) add("feed_forward_length", config.intermediate_size);
  add("leading_dense_block_count", config.num_hidden_layers - config.moe_layers());
  add("expert_feed_forward_length", config.moe_intermediate_size);
  add("expert_shared_count", config.n_shared_experts);
  add("expert_gating_func", kSoftmax);
  entries.push_back(
      {prefix + "expert_weights_scale", GgufValue::f32(static_cast<float>(config.routed_scaling_factor))});
  entries.push_back({prefix + "expert_weights_norm", GgufValue::boolean(false)});
  return entries;
}

}  // namespace moe
