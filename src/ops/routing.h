#pragma once
/// Routing: scores, choice, the sorted order of rows, balance losses. docs/paper.md eq. (9)-(17).
/// T tokens, D hidden size, E routed experts, K chosen per token, R = T * K rows, G balance groups (sequences, or one).
/// A token whose `group` is negative is padding: it chooses nobody, counts nowhere and gets no gradient.

#include "ops/fields.h"

namespace moe {

/// (11) scores[t] = softmax over experts of x_t . e_i, product and softmax in stat precision.
struct RouterScores {
  View x;       ///< [T, D]
  View weight;  ///< [E, D]
  View scores;  ///< stat [T, E]

  static constexpr const char* name = "router_scores";
  static constexpr auto fields() {
    return std::array{in("x", &RouterScores::x), in("weight", &RouterScores::weight),
                      out("scores", &RouterScores::scores)};
  }
};

/// (10) The K experts with the largest scores, best first, the lower index winning ties; gates are their scores,
/// divided by (their sum + 1e-20) when `normalize`. Padding: ids -1, gates 0. `bias` is added for the choice alone: an
/// expert at -infinity is chosen by nobody while others are left. The `skip` best of each token are passed over.
struct RouterTopk {
  View scores;     ///< stat [T, E]
  View bias = {};  ///< stat [E]
  View group;      ///< i32 [T]
  bool normalize;
  int64_t skip = 0;
  View ids;    ///< i32 [T, K], skip + K <= E
  View gates;  ///< stat [T, K]

  static constexpr const char* name = "router_topk";
  static constexpr auto fields() {
    return std::array{in("scores", &RouterTopk::scores), in("bias", &RouterTopk::bias).or_absent(),
                      in("group", &RouterTopk::group), out("ids", &RouterTopk::ids), out("gates", &RouterTopk::gates)};
  }
};

/// The rows sorted by expert, tokens in order within an expert. Slot t * K + k is token t's k-th choice.
/// Expert e's rows are [offsets[e], offsets[e + 1]). Entries from offsets[E] on (padding) are row_slot -1, row_token 0.
struct RoutePlan {
  View ids;        ///< i32 [T, K], -1: none
  View offsets;    ///< i32 [E + 1]
  View row_slot;   ///< i32 [R]: the slot of a row
  View row_token;  ///< i32 [R]: its token, row_slot / K
  View slot_row;   ///< i32 [T, K]: the row of a slot, -1 where ids is -1

  static constexpr const char* name = "route_plan";
  static constexpr auto fields() {
    return std::array{in("ids", &RoutePlan::ids), out("offsets", &RoutePlan::offsets),
                      out("row_slot", &RoutePlan::row_slot), out("row_token", &RoutePlan::row_token),
                      out("slot_row", &RoutePlan::slot_row)};
  }
};

/// y[t] = (y[t] when `accumulate`) + residual[t] (where given) + sum over k, in order, of rows[slot_row[t, k]].
/// It is the combination in forward and the gathered input's gradient in backward.
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

/// counts[group[t], ids[t, k]] += 1.
struct RouterCounts {
  View ids;     ///< i32 [T, K]
  View group;   ///< i32 [T], below G
  View counts;  ///< i32 [G, E]

  static constexpr const char* name = "router_counts";
  static constexpr auto fields() {
    return std::array{in("ids", &RouterCounts::ids), in("group", &RouterCounts::group),
                      inout("counts", &RouterCounts::counts)};
  }
};

/// What a token's score of expert i adds to the balance loss, per unit of score:
///   coefficients[g, i] = alpha * inv_tokens * mean over j in i's device group of f_j(g),
///   f_j(g) = E / (K * group_tokens[g]) * counts[g, j]                                       (13), (16)
/// The expert level (12) is the case devices = E; the device level (15) has D groups of E / D neighbours, and
/// P'_d = sum of P over the group, so the same sum over experts gives both. 0 for groups without tokens.
/// Added to what is there when `accumulate` (both levels, for the backward pass).
struct BalanceCoefficients {
  View counts;        ///< i32 [G, E]
  View group_tokens;  ///< i32 [G]: non-padding tokens over which counts[g] was taken
  View inv_tokens;    ///< stat [1]: 1 / (non-padding tokens of the step)
  int top_k;
  float alpha;
  int devices;        ///< divides E
  View coefficients;  ///< stat [G, E]
  bool accumulate = false;

  static constexpr const char* name = "balance_coefficients";
  static constexpr auto fields() {
    using B = BalanceCoefficients;
    return std::array{in("counts", &B::counts), in("group_tokens", &B::group_tokens), in("inv_tokens", &B::inv_tokens),
                      inout("coefficients", &B::coefficients)};
  }
};

/// loss += sum over t and i of coefficients[group[t], i] * scores[t, i]: this microbatch's part of (12) or (15), with
/// the token weights of docs/paper.md section 4.
struct BalanceLoss {
  View scores;        ///< stat [T, E]
  View group;         ///< i32 [T]
  View coefficients;  ///< stat [G, E]
  View loss;          ///< stat [1]

  static constexpr const char* name = "balance_loss";
  static constexpr auto fields() {
    return std::array{in("scores", &BalanceLoss::scores), in("group", &BalanceLoss::group),
                      in("coefficients", &BalanceLoss::coefficients), inout("loss", &BalanceLoss::loss)};
  }
};

/// d_logits from the gates' gradients (through the normalisation where used) and the balance loss, through the softmax:
///   d_score_i = coefficients[group, i] (where given) + d_gate of the slot that chose i,
///   d_logit_i = score_i * (d_score_i - sum_j score_j d_score_j).
/// The choice itself is replayed from `ids`, never made again. Padding: 0.
struct RouterBackward {
  View scores;             ///< stat [T, E]
  View ids;                ///< i32 [T, K]
  View d_gates;            ///< stat [T, K]; values of padding tokens are not read
  View group;              ///< i32 [T]
  View coefficients = {};  ///< stat [G, E]
  bool normalize;
  View d_logits;  ///< stat [T, E]

  static constexpr const char* name = "router_backward";
  static constexpr auto fields() {
    using B = RouterBackward;
    return std::array{in("scores", &B::scores),
                      in("ids", &B::ids),
                      in("d_gates", &B::d_gates),
                      in("group", &B::group),
                      in("coefficients", &B::coefficients).or_absent(),
                      out("d_logits", &B::d_logits)};
  }
};

void check(const RouterScores& op);
void check(const RouterTopk& op);
void check(const RoutePlan& op);
void check(const RowsCombine& op);
void check(const RouterCounts& op);
void check(const BalanceCoefficients& op);
void check(const BalanceLoss& op);
void check(const RouterBackward& op);

int64_t flops(const RouterScores& op);

}  // namespace moe
