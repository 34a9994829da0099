#pragma once
/// Routing: scores, choice, gates, rows sorted by expert, and the backward pass. See docs/paper.md eq. (9)-(11). T
/// tokens, D hidden size, E routed experts, K chosen per token, R rows of experts, G balance groups (sequences, or
/// one). A token whose `group` is negative is padding: it chooses no expert, is not counted and gets no gradient.

#include "ops/fields.h"

namespace moe {

/// How a router's logits x . e_i become scores.
enum class Scoring {
  softmax,  ///< softmax over all experts, (11)
  sigmoid,  ///< sigmoid of each logit
  none,     ///< the logits themselves
};
/// "softmax", "sigmoid" or "none".
const char* name(Scoring scoring);

/// scores[t] = scoring of x_t . e_i, with product and scoring in stat precision. `log_sum` (only for softmax) gets the
/// log-sum-exp of the logits.
struct RouterScores {
  View x;       ///< [T, D]
  View weight;  ///< [E, D]
  Scoring scoring = Scoring::softmax;
  View scores;        ///< stat [T, E]
  View log_sum = {};  ///< stat [T]

  static constexpr const char* name = "router_scores";
  static constexpr auto fields() {
    return std::array{in("x", &RouterScores::x), in("weight", &RouterScores::weight),
                      out("scores", &RouterScores::scores), out("log_sum", &RouterScores::log_sum).or_absent()};
  }
};

/// Contiguous groups of experts. A token uses only some of them: the groups whose `best` highest members have the
/// largest sum. Among equal groups the lower one wins. The token chooses no expert of the other groups.
struct GroupLimit {
  int64_t groups = 1;  ///< divides E, at most 32
  int64_t used = 1;    ///< M
  int64_t best = 1;    ///< at most E / groups

  constexpr bool active() const { return used < groups; }
};

/// (10) The K experts with the largest scores, best first; among equal scores the lower index wins. `bias` is added for
/// the choice (of experts and groups) only. An expert at -infinity is chosen only if no other is left. The `skip` best
/// experts of each token are skipped. With `even` the choice ignores the scores and is (t K + k) mod E. Padding gets
/// ids of -1.
struct RouterTopk {
  View scores;     ///< stat [T, E]
  View bias = {};  ///< stat [E]
  View group;      ///< i32 [T]
  GroupLimit limit = {};
  int64_t skip = 0;
  bool even = false;
  View ids;  ///< i32 [T, K], skip + K <= M E / groups

  static constexpr const char* name = "router_topk";
  static constexpr auto fields() {
    return std::array{in("scores", &RouterTopk::scores), in("bias", &RouterTopk::bias).or_absent(),
                      in("group", &RouterTopk::group), out("ids", &RouterTopk::ids)};
  }
};

/// The factor of a chosen expert's output.
enum class GateForm {
  score,       ///< its score
  normalized,  ///< its score / (sum of the token's chosen scores + 1e-20)
  softmax,     ///< softmax over the token's chosen scores
  one,         ///< 1
};
constexpr GateForm gate_form(bool normalize) { return normalize ? GateForm::normalized : GateForm::score; }

/// gates[t, k] = scale * form of scores[t, ids[t, k]]; 0 where the id is negative.
struct RouterGates {
  View scores = {};  ///< stat [T, E]; absent for GateForm::one
  View ids;          ///< i32 [T, K]
  GateForm form = GateForm::score;
  float scale = 1;
  View gates;  ///< stat [T, K]

  static constexpr const char* name = "router_gates";
  static constexpr auto fields() {
    return std::array{in("scores", &RouterGates::scores).or_absent(), in("ids", &RouterGates::ids),
                      out("gates", &RouterGates::gates)};
  }
};

/// The rows sorted by expert; within an expert, tokens keep their order. Slot t * K + k is the k-th choice of token t.
/// `first` is the number of the first of the E experts; a choice of an expert before or behind them has no row.
/// At most R slots have a choice, and R <= T * K. The rows of expert e are [offsets[e], offsets[e + 1]). Entries from
/// offsets[E] on have row_slot -1 and row_token 0.
struct RoutePlan {
  View ids;           ///< i32 [T, K], -1: none
  int64_t first = 0;  ///< not below 0
  View offsets;       ///< i32 [E + 1]
  View row_slot;      ///< i32 [R]: the slot of a row
  View row_token;     ///< i32 [R]: its token, row_slot / K
  View slot_row;      ///< i32 [T, K]: the row of a slot, -1 where it has none

  static constexpr const char* name = "route_plan";
  static constexpr auto fields() {
    return std::array{in("ids", &RoutePlan::ids), out("offsets", &RoutePlan::offsets),
                      out("row_slot", &RoutePlan::row_slot), out("row_token", &RoutePlan::row_token),
                      out("slot_row", &RoutePlan::slot_row)};
  }
};

/// The four operations above as one fused operation, with the bits of all in turn: each one's results are the next
/// one's operands.
struct RouteTokens {
  RouterScores scores;
  RouterTopk choice;
  RouterGates gates;
  RoutePlan plan;

  static constexpr const char* name = "route_tokens";
};

/// y[t] = (y[t] when `accumulate`) + residual[t] (if given) + sum over k, in order, of rows[slot_row[t, k]]. It
/// combines the experts' outputs in forward, and computes the gradient of the gathered input in backward.
struct RowsCombine {
  View rows;           ///< [R, D]
  View slot_row;       ///< i32 [T, K], -1: none
  View residual = {};  ///< [T, D]
  View y;              ///< [T, D]
  bool accumulate = false;

  static constexpr const char* name = "rows_combine";
  static constexpr auto fields() {
    return std::array{in("rows", &RowsCombine::rows), in("slot_row", &RowsCombine::slot_row),
                      in("residual", &RowsCombine::residual).or_absent(), inout("y", &RowsCombine::y)};
  }
};

/// rows[slot_row[t, k]] = x[t] for every slot that has a row: each token's values in all of its rows. Other rows are
/// not changed.
struct RowsGather {
  View x;         ///< [T, D]
  View slot_row;  ///< i32 [T, K], all different, or -1: none
  View rows;      ///< [R, D], of the type of x

  static constexpr const char* name = "rows_gather";
  static constexpr auto fields() {
    return std::array{in("x", &RowsGather::x), in("slot_row", &RowsGather::slot_row),
                      partial("rows", &RowsGather::rows)};
  }
};

/// d_logits from the gradients of the gates, the balance losses and the z-loss:
///   d_gate_k   = d_gates (0 where kept is negative) + gate_coefficients[group, id_k]
///   d_score_i  = through scale and form, of the gates of ids (replayed, never chosen again)
///                + coefficients[group, i], of s_i, or of s_i / sum_j s_j when `balance_normalized`
///   d_logit_i  = through the scoring + 2 z_loss inv_tokens log_sum s_i.
/// Padding: 0. Ids may be -1 anywhere; such slots are ignored.
struct RouterBackward {
  View scores;                  ///< stat [T, E]
  View ids;                     ///< i32 [T, K]: as chosen
  View kept = {};               ///< i32 [T, K]: as used, -1: dropped; absent: all are
  View d_gates;                 ///< stat [T, K]; values of padding tokens and of unused slots are not read
  View group;                   ///< i32 [T]
  View coefficients = {};       ///< stat [G, E]
  View gate_coefficients = {};  ///< stat [G, E]
  Scoring scoring = Scoring::softmax;
  GateForm form = GateForm::score;
  float scale = 1;
  bool balance_normalized = false;
  View log_sum = {};     ///< stat [T]
  View inv_tokens = {};  ///< stat [1], beside log_sum
  float z_loss = 0;
  View d_logits;  ///< stat [T, E]

  static constexpr const char* name = "router_backward";
  static constexpr auto fields() {
    using B = RouterBackward;
    return std::array{in("scores", &B::scores),
                      in("ids", &B::ids),
                      in("kept", &B::kept).or_absent(),
                      in("d_gates", &B::d_gates),
                      in("group", &B::group),
                      in("coefficients", &B::coefficients).or_absent(),
                      in("gate_coefficients", &B::gate_coefficients).or_absent(),
                      in("log_sum", &B::log_sum).or_absent(),
                      in("inv_tokens", &B::inv_tokens).or_absent(),
                      out("d_logits", &B::d_logits)};
  }
};

void check(const RouterScores& op);
void check(const RouterTopk& op);
void check(const RouterGates& op);
void check(const RoutePlan& op);
void check(const RouteTokens& op);
void check(const RowsCombine& op);
void check(const RowsGather& op);
void check(const RouterBackward& op);

int64_t flops(const RouterScores& op);

}  // namespace moe
