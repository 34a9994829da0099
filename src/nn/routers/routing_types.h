#pragma once
/// What all routing methods share (docs/routing.md): their configuration and the data of a choice of experts. T tokens,
/// D hidden size, E routed experts, K chosen, S choice slots per token (K; E if experts choose), R rows of experts, G
/// balance groups.

#include <string_view>

#include "nn/linear.h"
#include "nn/routers/balance_config.h"

namespace moe {

enum class RoutingMethod {
  topk,        ///< the K best of scores: DeepSeekMoE, GShard, Switch, ST-MoE, Mixtral, soft mixture, DeepSeek-V2, -V3
  noisy_topk,  ///< Shazeer et al.: the K best of noisy logits
  hash,        ///< Hash Layer: a table from token id to expert
  expert_choice,  ///< each expert takes its best tokens
  stable,         ///< StableMoE: learned, then frozen assignments
};
const char* name(RoutingMethod method);

struct RouterConfig {
  RoutingMethod method = RoutingMethod::topk;
  int64_t experts = 0;  ///< E
  int64_t top_k = 0;    ///< K
  Scoring scoring = Scoring::softmax;
  GateForm form = GateForm::score;
  float scale = 1;        ///< factor of the gates
  GroupLimit limit = {};  ///< device- and node-limited routing
  bool biased = false;    ///< loss-free balancing: the model has RouterWeights::bias
  bool log_sum = false;   ///< keep the log-sum-exp for a z-loss
  float jitter = 0;       ///< jitter of the router's input, in training
  float threshold = 0;    ///< thinning of second experts, in training (RouterDrop); 0: none
  int64_t capacity = 0;   ///< in training, in millionths (expert_choice: always); 0: dropless
  int64_t capacity_eval = 0;
  int64_t skip = 0;   ///< number of each token's best experts to skip (in inference)
  bool even = false;  ///< choices ignore the scores (for benchmarks)

  /// S
  int64_t slots() const;
  /// The largest number of rows that `tokens` tokens in batch rows of `row_length` can have.
  int64_t rows(int64_t tokens, int64_t row_length) const;
  /// True if f and P of the balance losses use the scores' own choice, and the scores divided by their sum.
  bool balances_own_scores() const { return biased || scoring == Scoring::sigmoid; }
  /// True if choices may be dropped, in training or in evaluation.
  bool drops() const;
};

/// The kind of pass (training, StableMoE's first stage, inference), which decides about noise, capacity and who
/// assigns, and the seed and position of its random draws.
struct RouteMode {
  bool training = false;
  bool learning = false;  ///< StableMoE's first stage
  uint64_t seed = 0;
  int64_t step = 0;
  int64_t first_token = 0;  ///< index in the step of the microbatch's first token

  /// The draws of the layer's router; `what` names the kind of draw.
  Draws draws(std::string_view what, int64_t layer) const;
};

/// The groups of tokens of a microbatch's balance losses, on the device.
struct BalanceViews {
  View group = {};         ///< i32 [T]: a document's index (sequence) or 0; -1: padding
  View group_tokens = {};  ///< i32 [G]
  View inv_tokens = {};    ///< stat [1]: 1 / (non-padding tokens of the step)
};

/// The sums that balance losses are computed from, by group of tokens. Sums that no loss needs are absent.
struct BalanceSums {
  View counts = {};      ///< i32 [G, E]
  View reach = {};       ///< i32 [G, D]: tokens with an expert in each group of experts
  View importance = {};  ///< stat [G, E]
  View load = {};        ///< stat [G, E]
};

/// Accumulators of one MoE layer over a whole step. Absent ones are not updated.
struct LayerStats {
  View group = {};        ///< i32 [T]: the row of `counts` for each token; -1: not counted
  View counts = {};       ///< i32 [groups, E]: choices, counted before any is dropped
  View ids = {};          ///< i32 [T, S], overwritten: the choices, before any is dropped; -1: none
  View gates = {};        ///< stat [T, S], overwritten: their gates
  View dropped = {};      ///< i32 [1]: choices whose expert was full
  View losses = {};       ///< stat [kRouterLosses]
  BalanceSums sums = {};  ///< sums of the whole step (for step scope)
  bool collect = false;   ///< true in a counting pass: it adds to `sums` and computes no losses
};

/// Weights, or their gradients. Those that a method does not have are absent.
struct RouterWeights {
  Linear project = {};          ///< [E, D]
  View bias = {};               ///< stat [E], added to the scores for the choice only
  Linear noise = {};            ///< [E, D]
  View table = {};              ///< i32 [V]
  View light_embedding = {};    ///< [V, kLightWidth]
  Linear light_centroids = {};  ///< [E, kLightWidth]
};
constexpr int64_t kLightWidth = 50;  ///< width of StableMoE's light router

/// The sizes that a router's parameters depend on, besides those of RouterConfig.
struct RouterSizes {
  int64_t hidden;      ///< D
  int64_t vocabulary;  ///< V
};

/// The choice of experts, which recompute replays.
struct RouteChoice {
  View ids;        ///< i32 [T, S]: as chosen
  View gates;      ///< stat [T, S]
  View kept = {};  ///< i32 [T, S]: ids, with -1 for dropped choices; absent: none is dropped

  const View& used() const { return kept ? kept : ids; }
};

struct Route {
  RouteChoice choice;
  View scores = {};           ///< stat [T, E]; noisy logits for noisy_topk, absent for hash
  View log_sum = {};          ///< stat [T]
  View clean = {}, raw = {};  ///< stat [T, E]: noisy_topk's logits and those of its noise
  View light = {};            ///< stat [T, E]: the light router's scores while it learns
  View offsets = {};          ///< i32 [E + 1]  (RoutePlan)
  View row_slot = {};         ///< i32 [R]
  View row_token = {};        ///< i32 [R]
  View slot_row = {};         ///< i32 [T, S]
  bool planned = false;       ///< the four views above are filled
};

}  // namespace moe
