#pragma once
/// What all routing methods have in common, docs/routing.md: their configuration, the choice that the experts work by,
/// the losses they add. T tokens, D hidden size, E routed experts, K chosen, S choice slots per token (K; E where
/// experts choose), R rows of experts, G balance groups.

#include <array>
#include <optional>
#include <string>

#include "nn/pass.h"

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
  float scale = 1;        ///< of the gates
  GroupLimit limit = {};  ///< device- and node-limited routing
  bool biased = false;    ///< loss-free balancing: RouterWeights::bias is part of the model
  bool log_sum = false;   ///< keep what a z-loss needs
  float jitter = 0;       ///< of the router's input, in training
  float threshold = 0;    ///< thinning of second experts, in training (RouterDrop); 0: none
  int64_t capacity = 0;   ///< in training, in millionths (expert_choice: always); 0: dropless
  int64_t capacity_eval = 0;
  int64_t skip = 0;   ///< each token's best experts that are passed over (in inference)
  bool even = false;  ///< choices ignore the scores (benchmarks)

  int64_t slots() const { return method == RoutingMethod::expert_choice ? experts : top_k; }
  /// The most rows that `tokens` tokens in batch rows of `row_length` can have.
  int64_t rows(int64_t tokens, int64_t row_length) const;
  /// f and P of the balance losses are taken of the scores' own choice and of scores / their sum.
  bool balances_own_scores() const { return biased || scoring == Scoring::sigmoid; }
  bool drops() const { return method == RoutingMethod::topk && (threshold > 0 || capacity > 0 || capacity_eval > 0); }
};

/// Over which tokens f and P of a balance loss are taken (docs/paper.md section 4).
enum class BalanceScope { sequence, microbatch, step };
const char* name(BalanceScope scope);
/// "sequence", "microbatch" or "step".
std::optional<BalanceScope> balance_scope_from(std::string_view text);

/// The losses that routers add to the cross-entropy, each reported by itself.
enum class RouterLoss { expert, device, communication, z, importance, load, stable_balance, distillation };
constexpr int64_t kRouterLosses = 8;
/// "expert", "device", ...
const char* name(RouterLoss loss);

/// The balance losses of a training run; a loss with weight 0 is not computed.
struct BalanceConfig {
  float alpha_expert = 0;  ///< alpha1
  float alpha_device = 0;  ///< alpha2
  int devices = 1;         ///< D
  BalanceScope scope = BalanceScope::sequence;
  float alpha_communication = 0;  ///< alpha3, over the groups of RouterConfig::limit
  bool first_choice = false;      ///< f counts first choices alone
  float z_loss = 0;
  float importance = 0;
  float load = 0;
  float stable_balance = 0;
  float stable_distillation = 0;
  float bias_rate = 0;  ///< loss-free balancing: what a step moves a bias by

  /// Some loss ranges over groups of tokens.
  bool grouped() const {
    return alpha_expert != 0 || alpha_device != 0 || alpha_communication != 0 || importance != 0 || load != 0 ||
           stable_balance != 0;
  }
  /// A counting pass must come first.
  bool counts_first() const { return scope == BalanceScope::step && grouped(); }
};

/// Why a pass is made, which decides about noise, capacity and who assigns; and where its draws come from.
struct RouteMode {
  bool training = false;
  bool learning = false;  ///< StableMoE's first stage
  uint64_t seed = 0;
  int64_t step = 0;
  int64_t first_token = 0;  ///< of the microbatch in the step

  /// Of the layer's router; `what` names the draw.
  Draws draws(std::string_view what, int64_t layer) const;
};

/// What the balance losses of a microbatch range over, on the device.
struct BalanceViews {
  View group = {};         ///< i32 [T]: a document's index (sequence) or 0; -1: padding
  View group_tokens = {};  ///< i32 [G]
  View inv_tokens = {};    ///< stat [1]: 1 / (non-padding tokens of the step)
};

/// What balance losses are made of, by group of tokens; those that no loss needs are absent.
struct BalanceSums {
  View counts = {};      ///< i32 [G, E]
  View reach = {};       ///< i32 [G, D]: tokens that reach each group of experts
  View importance = {};  ///< stat [G, E]
  View load = {};        ///< stat [G, E]
};

/// Step-wide accumulators of one MoE layer; absent ones are not updated.
struct LayerStats {
  View group = {};        ///< i32 [T]: the row of `counts` for each token; -1: not counted
  View counts = {};       ///< i32 [groups, E]: choices, before any is dropped
  View ids = {};          ///< i32 [T, S], overwritten: the choices themselves, before any is dropped; -1: none
  View dropped = {};      ///< i32 [1]: choices that found their expert full
  View losses = {};       ///< stat [kRouterLosses]
  BalanceSums sums = {};  ///< of the whole step (step scope)
  bool collect = false;   ///< a counting pass: adds to `sums` and makes no losses
};

/// Weights, or their gradients; those that a method does not have are absent.
struct RouterWeights {
  View weight;                ///< [E, D]
  View bias = {};             ///< stat [E], added to the scores for the choice alone
  View noise = {};            ///< [E, D]
  View table = {};            ///< i32 [V]
  View light_embedding = {};  ///< [V, kLightWidth]
  View light_centroids = {};  ///< [E, kLightWidth]
};
constexpr int64_t kLightWidth = 50;  ///< of StableMoE's light router

/// The choice, which recompute replays.
struct RouteChoice {
  View ids;        ///< i32 [T, S]: as chosen
  View gates;      ///< stat [T, S]
  View kept = {};  ///< i32 [T, S]: ids without what was dropped; absent: all are kept

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
};

/// One microbatch as a router sees it.
struct RouterInput {
  const RouterConfig& config;
  const BalanceConfig& balance;
  const TokenViews& tokens;
  const BalanceViews& views;
  const LayerStats& stats;
  RouteMode mode;
  int64_t layer;
  View x;  ///< [T, D]

  /// The balance group of each token.
  const View& group() const { return views.group ? views.group : tokens.valid; }
};

/// Scores and choice (kept as they are when `replay`), and the order of rows.
Route route_forward(Pass& pass, const RouterInput& in, const RouterWeights& weights, const RouteChoice& choice,
                    bool replay);

/// Counts the choices and adds this microbatch's losses, as far as `stats` has somewhere to put them.
void route_losses(Pass& pass, const RouterInput& in, const Route& route);

/// Adds the router's part to dx and makes its weights' gradients, from the gates' gradients d_gates [T, S] and the
/// losses.
void route_backward(Pass& pass, const RouterInput& in, const RouterWeights& weights, const RouterWeights& gradients,
                    const Route& route, View d_gates, View dx);

}  // namespace moe
