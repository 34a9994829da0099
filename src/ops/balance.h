#pragma once
/// Balancing the experts: counts, the values of the losses and their gradients, the selection bias. See docs/routing.md
/// and docs/paper.md eq. (12)-(17). T tokens, E routed experts, K chosen per token, G balance groups (sequences, or
/// one), C columns of neighbouring experts (C divides E). A token whose `group` is negative is not counted and adds no
/// loss.

#include "ops/fields.h"

namespace moe {

/// counts[group[t], c] += 1 for each column c that holds an expert of ids[t]. With C = E this counts the tokens that
/// chose each expert; with C < E, the tokens that chose at least one expert of each column.
struct RouterCounts {
  View ids;         ///< i32 [T, K], distinct in a row where not negative
  View group;       ///< i32 [T], below G
  int64_t experts;  ///< E
  View counts;      ///< i32 [G, C]

  static constexpr const char* name = "router_counts";
  static constexpr auto fields() {
    return std::array{in("ids", &RouterCounts::ids), in("group", &RouterCounts::group),
                      inout("counts", &RouterCounts::counts)};
  }
};

/// What a token's score of expert i adds to a balance loss, per unit of score:
///   coefficients[g, i] = alpha * inv_tokens * (mean over the columns j in i's device group of f_j(g) - offset),
///   f_j(g) = C / (top_k * group_tokens[g]) * counts[g, j]                                   (13), (16)
/// The expert level (12) is the case devices = C = E. The device level (15) has D groups of E / D neighbours; P'_d is
/// the sum of P over the group, so the same sum over experts gives both. The communication loss is the case C = devices
/// = D with counts of the tokens that chose a group, and top_k = M. Groups without tokens get 0. With `accumulate` the
/// result is added to the old coefficients.
struct BalanceCoefficients {
  View counts;        ///< i32 [G, C]
  View group_tokens;  ///< i32 [G]: non-padding tokens over which counts[g] was taken
  View inv_tokens;    ///< stat [1]: 1 / (non-padding tokens of the step)
  int top_k;
  float alpha;
  int devices;  ///< divides C
  float offset = 0;
  View coefficients;  ///< stat [G, E]
  bool accumulate = false;

  static constexpr const char* name = "balance_coefficients";
  static constexpr auto fields() {
    using B = BalanceCoefficients;
    return std::array{in("counts", &B::counts), in("group_tokens", &B::group_tokens), in("inv_tokens", &B::inv_tokens),
                      inout("coefficients", &B::coefficients)};
  }
};

/// loss += sum over t and i of coefficients[group[t], i] * scores[t, i] (/ sum_j scores[t, j] when `normalized`). This
/// is the microbatch's part of (12) or (15), with the token weights of docs/paper.md section 4.
struct BalanceLoss {
  View scores;        ///< stat [T, E]
  View group;         ///< i32 [T]
  View coefficients;  ///< stat [G, E]
  bool normalized = false;
  View loss;  ///< stat [1]

  static constexpr const char* name = "balance_loss";
  static constexpr auto fields() {
    return std::array{in("scores", &BalanceLoss::scores), in("group", &BalanceLoss::group),
                      in("coefficients", &BalanceLoss::coefficients), inout("loss", &BalanceLoss::loss)};
  }
};

/// loss += sum over t and k of coefficients[group[t], ids[t, k]] * gates[t, k].
struct GateLoss {
  View gates;         ///< stat [T, K]
  View ids;           ///< i32 [T, K]
  View group;         ///< i32 [T]
  View coefficients;  ///< stat [G, E]
  View loss;          ///< stat [1]

  static constexpr const char* name = "gate_loss";
  static constexpr auto fields() {
    return std::array{in("gates", &GateLoss::gates), in("ids", &GateLoss::ids), in("group", &GateLoss::group),
                      in("coefficients", &GateLoss::coefficients), inout("loss", &GateLoss::loss)};
  }
};

/// loss += weight * inv_tokens * sum over t of log_sum[t]^2.
struct RouterZLoss {
  View log_sum;     ///< stat [T]
  View group;       ///< i32 [T]
  View inv_tokens;  ///< stat [1]
  float weight;
  View loss;  ///< stat [1]

  static constexpr const char* name = "router_z_loss";
  static constexpr auto fields() {
    return std::array{in("log_sum", &RouterZLoss::log_sum), in("group", &RouterZLoss::group),
                      in("inv_tokens", &RouterZLoss::inv_tokens), inout("loss", &RouterZLoss::loss)};
  }
};

/// sums[group[t], i] += values[t, k], where i = ids[t, k], or i = k if `ids` is absent. Values are from 0 to 1. The
/// result does not depend on the order of the additions.
struct ExpertSums {
  View values;    ///< stat [T, K]
  View ids = {};  ///< i32 [T, K]
  View group;     ///< i32 [T]
  View sums;      ///< stat [G, E]

  static constexpr const char* name = "expert_sums";
  static constexpr auto fields() {
    return std::array{in("values", &ExpertSums::values), in("ids", &ExpertSums::ids).or_absent(),
                      in("group", &ExpertSums::group), inout("sums", &ExpertSums::sums)};
  }
};

/// With the squared coefficient of variation CV^2 = variance / mean^2 of each group's E sums:
///   loss += sum over g of w_g CV^2_g,   coefficients[g, i] = w_g dCV^2_g / dsums[g, i],
///   w_g = weight * group_tokens[g] * inv_tokens. Groups whose sums are all 0 have CV^2 = 0.
struct VariationLoss {
  View sums;          ///< stat [G, E]
  View group_tokens;  ///< i32 [G]
  View inv_tokens;    ///< stat [1]
  float weight;
  View loss = {};          ///< stat [1]
  View coefficients = {};  ///< stat [G, E]

  static constexpr const char* name = "variation_loss";
  static constexpr auto fields() {
    using V = VariationLoss;
    return std::array{in("sums", &V::sums), in("group_tokens", &V::group_tokens), in("inv_tokens", &V::inv_tokens),
                      inout("loss", &V::loss).or_absent(), out("coefficients", &V::coefficients).or_absent()};
  }
};

/// Loss-free balancing: bias[i] += rate * sign(mean of counts - counts[i]), sign(0) = 0.
struct BiasUpdate {
  View counts;  ///< i32 [E]
  float rate;
  View bias;  ///< stat [E]

  static constexpr const char* name = "bias_update";
  static constexpr auto fields() {
    return std::array{in("counts", &BiasUpdate::counts), inout("bias", &BiasUpdate::bias)};
  }
};

void check(const RouterCounts& op);
void check(const BalanceCoefficients& op);
void check(const BalanceLoss& op);
void check(const GateLoss& op);
void check(const RouterZLoss& op);
void check(const ExpertSums& op);
void check(const VariationLoss& op);
void check(const BiasUpdate& op);

}  // namespace moe
