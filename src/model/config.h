#pragma once
/// The shape of a model: the part of a Hugging Face `DeepseekForCausalLM` config.json that describes the mathematics
/// (docs/paper.md section 2).

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "nn/decoder_layer.h"
#include "nn/parameter.h"
#include "nn/routers/registry.h"

namespace moe {

/// The experts that a token may choose from: all (greedy); those of the groups with the best single experts
/// (group_limited_greedy); or, with a bias added to the scores for the choice, those of the groups with the largest
/// sums of their K / M best (noaux_tc).
enum class TopkMethod { greedy, group_limited_greedy, noaux_tc };
const char* name(TopkMethod method);

/// An adapter of one parameter (nn/adapter.h).
struct AdapterShape {
  int64_t rank = 0;  ///< 0: there is none
  float scale = 1;

  bool operator==(const AdapterShape&) const = default;
};

/// The adapted parameters: by layer (-1: outside the layers) and role.
using AdapterShapes = std::map<std::pair<int64_t, ParameterRole>, AdapterShape>;

struct ModelConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;      ///< width of the dense layers' FFN
  int64_t moe_intermediate_size = 0;  ///< width of one expert
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;  ///< hidden_size / num_attention_heads, unless the file has another value
  int64_t n_shared_experts = 0;
  int64_t n_routed_experts = 0;  ///< 0: every layer is dense
  int64_t num_experts_per_tok = 0;
  int64_t moe_layer_freq = 1;
  int64_t first_k_dense_replace = 0;
  bool norm_topk_prob = false;
  RoutingMethod routing = RoutingMethod::topk;
  Scoring scoring_func = Scoring::softmax;  ///< softmax or sigmoid
  TopkMethod topk_method = TopkMethod::greedy;
  int64_t n_group = 1;                 ///< D groups of neighbouring experts
  int64_t topk_group = 1;              ///< M, the number of groups that a token may use
  double routed_scaling_factor = 1;    ///< factor of the gates
  double router_jitter = 0;            ///< in training, the router's input is multiplied by U(1 - j, 1 + j)
  double second_expert_threshold = 0;  ///< t > 0: in training, the second expert stays with probability min(1, g2 / t)
  /// choices per expert, relative to an equal share of a row's tokens; 0: dropless
  double capacity_factor = 0;
  double eval_capacity_factor = 0;   ///< the same in evaluation
  int64_t skipped_experts = 0;       ///< number of each token's best experts to skip; only in inference, in no file
  bool even_routing = false;         ///< choices ignore the scores; only in benchmarks, in no file
  QkNorm qk_norm = QkNorm::none;     ///< implied by the family
  bool qkv_bias = false;             ///< implied by the family
  bool gated_shared_expert = false;  ///< implied by the family: the shared experts times sigmoid(s . x)
  /// The width of all shared experts together; 0: n_shared_experts * moe_intermediate_size.
  int64_t shared_expert_intermediate_size = 0;
  bool tie_word_embeddings = false;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  int64_t max_position_embeddings = 2048;
  double initializer_range = 0.006;
  double aux_loss_alpha = 0.001;
  bool seq_aux = true;
  std::optional<int64_t> bos_token_id;
  std::optional<int64_t> eos_token_id;
  std::optional<int64_t> pad_token_id;
  std::string family = "deepseek";  ///< how config.json and tensors are named (checkpoint/family.h)
  AdapterShapes adapters = {};      ///< of these weights or of this run; in no file of a model

  /// Layer i is a MoE layer when there are routed experts, i >= first_k_dense_replace and i % moe_layer_freq == 0.
  bool is_moe_layer(int64_t layer) const;
  int64_t moe_layers() const;
  /// True if each expert has a bias that its load changes.
  bool has_router_bias() const { return routing_row().score_settings && topk_method == TopkMethod::noaux_tc; }
  /// What the routing method is; of a dense model it says nothing.
  const RoutingRow& routing_row() const { return moe::routing_row(routing); }
  /// True if there are routed experts and the method's row has this property: routes_with(&RoutingRow::hash_table).
  bool routes_with(bool RoutingRow::*property) const { return n_routed_experts > 0 && routing_row().*property; }
  /// True if no token sees a later one, so that text can be generated token by token.
  bool causal() const { return n_routed_experts == 0 || routing_row().causal; }
  int64_t shared_width() const {
    return shared_expert_intermediate_size > 0 ? shared_expert_intermediate_size
                                               : n_shared_experts * moe_intermediate_size;
  }

  AdapterShape adapter(int64_t layer, ParameterRole role) const;
  /// The model without its adapters.
  ModelConfig base() const;
  AttentionConfig attention() const;
  /// Without experts, one that chooses none.
  RouterConfig router(const BalanceConfig& balance = {}) const;
  DecoderConfig decoder(const BalanceConfig& balance = {}) const;
};

}  // namespace moe
