#include "model/validate.h"

#include "model/keys.h"
#include "model/size_limits.h"

namespace moe {
namespace {

void require_positive(const char* field, int64_t value) {
  if (value <= 0) fail("the model's {} is {}, expected a positive number", field, value);
}

void validate_groups(const ModelConfig& config) {
  if (config.topk_method == TopkMethod::greedy) return;
  if (config.topk_method == TopkMethod::group_limited_greedy && config.scoring_func == Scoring::sigmoid) {
    fail(
        "the model's scoring_func is sigmoid with topk_method group_limited_greedy, which no method defines; expected "
        "softmax, or topk_method noaux_tc");
  }
  if (config.n_routed_experts % config.n_group != 0) {
    fail("the model's n_group is {}, expected a divisor of n_routed_experts, which is {}", config.n_group,
         config.n_routed_experts);
  }
  if (config.topk_group > config.n_group) {
    fail("the model's topk_group is {}, but there are only {} groups (n_group)", config.topk_group, config.n_group);
  }
  const int64_t within = config.n_routed_experts / config.n_group * config.topk_group;
  if (config.num_experts_per_tok + config.skipped_experts > within) {
    fail("the model's num_experts_per_tok is {}, but {} groups of {} hold only {} experts (topk_group, n_group)",
         config.num_experts_per_tok, config.topk_group, config.n_group, within);
  }
}

void validate_routing(const ModelConfig& config) {
  if (const KeyRow<ModelConfig>* row = without_effect(model_keys(), config, config)) {
    fail("the model's {} is {}, expected {}: it needs {}", row->json_field(), plain_text(row->get(config)),
         plain_text(row->get(ModelConfig())), row->needs->text);
  }
  validate_groups(config);
  if (config.second_expert_threshold > 0 && config.num_experts_per_tok != 2) {
    fail("the model's num_experts_per_tok is {}, expected 2 with a second_expert_threshold",
         config.num_experts_per_tok);
  }
  const RoutingRow& routing = config.routing_row();
  if (routing.experts_choose) {
    if (config.capacity_factor != static_cast<double>(config.num_experts_per_tok)) {
      fail(
          "the model's capacity_factor is {}, expected {}, its num_experts_per_tok: routing = {} gives each token as "
          "many experts on average",
          config.capacity_factor, config.num_experts_per_tok, routing.name);
    }
  }
  if (routing.top_k != 0 && config.num_experts_per_tok != routing.top_k) {
    fail("the model's num_experts_per_tok is {}, expected {} with routing = {}", config.num_experts_per_tok,
         routing.top_k, routing.name);
  }
}

void validate_experts(const ModelConfig& config) {
  require_positive("moe_intermediate_size", config.moe_intermediate_size);
  require_positive("num_experts_per_tok", config.num_experts_per_tok);
  if (config.num_experts_per_tok > config.n_routed_experts) {
    fail("the model's num_experts_per_tok is {}, but there are only {} routed experts (n_routed_experts)",
         config.num_experts_per_tok, config.n_routed_experts);
  }
  if (config.skipped_experts < 0 || config.skipped_experts + config.num_experts_per_tok > config.n_routed_experts) {
    fail("{} best experts to skip and {} to choose are more than the {} routed experts", config.skipped_experts,
         config.num_experts_per_tok, config.n_routed_experts);
  }
  validate_routing(config);
}

}  // namespace

void validate(const ModelConfig& config) {
  const KeyRow<ModelConfig>* const row = out_of_range(model_keys(), config);
  // If no head_dim is given and none follows from the other two, it is 0.
  if (row != nullptr && row->leaf() == "head_dim" && config.head_dim == 0 &&
      config.hidden_size % config.num_attention_heads != 0) {
    fail("the model's hidden_size is {}, expected a multiple of num_attention_heads, which is {} (or give head_dim)",
         config.hidden_size, config.num_attention_heads);
  }
  if (row != nullptr && row->leaf() == "head_dim" && config.hidden_size % config.num_attention_heads == 0 &&
      config.hidden_size / config.num_attention_heads == config.head_dim) {
    fail(
        "the model's hidden_size is {}, so that each of {} heads (num_attention_heads) has a head_dim of {}, expected "
        "{}",
        config.hidden_size, config.num_attention_heads, config.head_dim, expected_values(*row));
  }
  if (row != nullptr) {
    fail("the model's {} is {}, expected {}", row->json_field(), plain_text(row->get(config)), expected_values(*row));
  }
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    fail("the model's num_attention_heads is {}, expected a multiple of num_key_value_heads, which is {}",
         config.num_attention_heads, config.num_key_value_heads);
  }
  if (config.head_dim % 2 != 0) {
    fail("the model's head_dim is {}, expected an even number (rotary positions rotate pairs)", config.head_dim);
  }
  if (config.n_routed_experts > 0) validate_experts(config);
  if (config.moe_layers() < config.num_hidden_layers) require_positive("intermediate_size", config.intermediate_size);
  require_countable(config);
}

}  // namespace moe
