#pragma once
/// The routing methods as a table. The rest of the program never asks which method a model has; it asks the method's
/// row. A further method is a file of this folder, a value of RoutingMethod and a row (docs/add-a-router.md).

#include <span>
#include <string_view>

#include "nn/routers/routing_types.h"

namespace moe {

struct RouterFunctions;

struct RoutingRow {
  RoutingMethod method;
  const char* name;  ///< model.routing
  const RouterFunctions& (*functions)();
  /// How gates follow from scores. `normalized`: model.norm_topk_prob with more than one expert per token.
  GateForm (*gate_form)(bool normalized);
  /// The weights of its losses if the run file does not set them. A weight of 0 that no key sets is never computed.
  BalanceConfig losses = {};
  int64_t top_k = 0;            ///< the only K; 0: any
  bool score_settings = false;  ///< has the settings of scores: scoring_func, topk_method, groups, jitter, ...
  bool capacity = false;        ///< has the setting capacity_factor
  bool noise = false;           ///< has the losses of noisy logits
  bool hash_table = false;      ///< has a table from token id to expert
  bool experts_choose = false;  ///< experts choose tokens: S is E, and K is the capacity factor
  bool causal = true;           ///< a token's choice does not depend on later tokens
  bool staged = false;          ///< learns its choice in a first stage and freezes it in a second
  bool by_score = true;         ///< each token chooses by its scores, so that single experts can be masked
  bool scoring_func = true;     ///< config.json says by which function it has scores
};

/// In the order of RoutingMethod.
std::span<const RoutingRow> routing_rows();
const RoutingRow& routing_row(RoutingMethod method);

}  // namespace moe
