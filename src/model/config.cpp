#include "model/config.h"

#include <algorithm>
#include <cmath>

namespace moe {

bool ModelConfig::is_moe_layer(int64_t layer) const {
  return n_routed_experts > 0 && layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
}

int64_t ModelConfig::moe_layers() const {
  int64_t count = 0;
  for (int64_t layer = 0; layer < num_hidden_layers; ++layer) count += is_moe_layer(layer) ? 1 : 0;
  return count;
}

namespace {

int64_t millionths(double factor) { return std::llround(factor * static_cast<double>(kMillion)); }

GroupLimit group_limit(const ModelConfig& config) {
  if (config.topk_method == TopkMethod::greedy) return {};
  const int64_t share = std::max<int64_t>(1, config.num_experts_per_tok / config.topk_group);
  return {.groups = config.n_group,
          .used = config.topk_group,
          .best = config.topk_method == TopkMethod::noaux_tc ? std::min(share, config.n_routed_experts / config.n_group)
                                                             : 1};
}

}  // namespace

const char* name(TopkMethod method) {
  switch (method) {
    case TopkMethod::greedy:
      return "greedy";
    case TopkMethod::group_limited_greedy:
      return "group_limited_greedy";
    case TopkMethod::noaux_tc:
      return "noaux_tc";
  }
  return "?";
}

AdapterShape ModelConfig::adapter(int64_t layer, ParameterRole role) const {
  const auto found = adapters.find({layer, role});
  return found == adapters.end() ? AdapterShape{} : found->second;
}

ModelConfig ModelConfig::base() const {
  ModelConfig config = *this;
  config.adapters.clear();
  return config;
}

AttentionConfig ModelConfig::attention() const {
  return {.hidden = hidden_size,
          .heads = static_cast<int>(num_attention_heads),
          .kv_heads = static_cast<int>(num_key_value_heads),
          .head_dim = head_dim,
          .norm = qk_norm,
          .norm_eps = static_cast<float>(rms_norm_eps)};
}

RouterConfig ModelConfig::router(const BalanceConfig& balance) const {
  if (n_routed_experts == 0) return {};
  return {.method = routing,
          .experts = n_routed_experts,
          .top_k = num_experts_per_tok,
          .scoring = scoring_func,
          .form = routing_row().gate_form(norm_topk_prob && num_experts_per_tok > 1),
          .scale = static_cast<float>(routed_scaling_factor),
          .limit = group_limit(*this),
          .biased = has_router_bias(),
          .log_sum = balance.z_loss != 0,
          .jitter = static_cast<float>(router_jitter),
          .threshold = static_cast<float>(second_expert_threshold),
          .capacity = millionths(capacity_factor),
          .capacity_eval = millionths(eval_capacity_factor),
          .skip = skipped_experts,
          .even = even_routing};
}

DecoderConfig ModelConfig::decoder(const BalanceConfig& balance) const {
  return {.attention = attention(),
          .moe = {.hidden = hidden_size, .width = moe_intermediate_size, .router = router(balance), .balance = balance},
          .norm_eps = static_cast<float>(rms_norm_eps)};
}

}  // namespace moe
