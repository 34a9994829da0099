#pragma once
/// DeepSeekMoE's router, docs/paper.md eq. (10)-(17): softmax scores, the K best experts, gates = scores (renormalised on request),
/// expert and device level balance losses. T tokens, E routed experts, K chosen, R = T * K rows, G balance groups.

#include <optional>
#include <string>

#include "nn/pass.h"

namespace moe {

/// Over which tokens f and P of a balance loss are taken (docs/paper.md section 4).
enum class BalanceScope { sequence, microbatch, step };
const char* name(BalanceScope scope);
/// "sequence", "microbatch" or "step".
std::optional<BalanceScope> balance_scope_from(std::string_view text);

struct RouterConfig {
  int64_t experts;  ///< E
  int64_t top_k;    ///< K
  bool normalize;   ///< norm_topk_prob
  int64_t skip = 0; ///< each token's best experts that are passed over (in inference)
};

/// The balance losses of a training run; a loss with alpha 0 is not computed.
struct BalanceConfig {
  float alpha_expert = 0;  ///< alpha1
  float alpha_device = 0;  ///< alpha2
  int devices = 1;         ///< D
  BalanceScope scope = BalanceScope::sequence;

  bool active() const { return alpha_expert != 0 || alpha_device != 0; }
};

/// What the balance losses of a microbatch range over, on the device.
struct BalanceViews {
  View group;         ///< i32 [T]: a document's index (sequence) or 0; -1: padding
  View group_tokens;  ///< i32 [G]
  View inv_tokens;    ///< stat [1]: 1 / (non-padding tokens of the step)
};

/// Step-wide accumulators of one MoE layer; absent ones are not updated.
struct LayerStats {
  View group = {};          ///< i32 [T]: the row of `counts` for each token; -1: not counted
  View counts = {};         ///< i32 [groups, E]
  View expert_loss = {};    ///< stat [1]
  View device_loss = {};    ///< stat [1]
  View step_counts = {};    ///< i32 [1, E]: the whole step's counts (step scope, made by an earlier counting pass)
};

/// The choice, which recompute replays.
struct RouteChoice {
  View ids;    ///< i32 [T, K]
  View gates;  ///< stat [T, K]
};

struct Route {
  RouteChoice choice;
  View scores;      ///< stat [T, E]
  View offsets;     ///< i32 [E + 1]  (RoutePlan)
  View row_slot;    ///< i32 [R]
  View row_token;   ///< i32 [R]
  View slot_row;    ///< i32 [T, K]
};

/// Scores and choice (kept as they are when `replay`), and the order of rows. `bias` (stat [E] or absent) is added to the
/// scores for the choice alone.
Route route_forward(Pass& pass, const RouterConfig& config, View weight, View bias, const TokenViews& tokens, View x,
                    const RouteChoice& choice, bool replay);

/// Counts the choices and adds this microbatch's balance losses, as far as `stats` has somewhere to put them.
void route_losses(Pass& pass, const RouterConfig& config, const BalanceConfig& balance, const BalanceViews& views,
                  const LayerStats& stats, const Route& route);

/// Adds the router's part to dx and makes d_weight, from the gates' gradients d_gates [T, K] and the balance losses.
void route_backward(Pass& pass, const RouterConfig& config, const BalanceConfig& balance, const BalanceViews& views,
                    const LayerStats& stats, const TokenViews& tokens, View weight, View d_weight, const Route& route,
                    View x, View d_gates, View dx);

}  // namespace moe
