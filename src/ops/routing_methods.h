#pragma once
/// Operations of single routing methods: capacity, noise, tables, choice by experts, distillation. See docs/routing.md.
/// T tokens, D hidden size, E routed experts, K chosen per token, G balance groups. A token whose `group` is negative
/// is padding.

#include "ops/fields.h"

namespace moe {

/// The source of random draws: Random(seed, stream) at index (first + t) * width + column, where `first` is the index
/// in the step of the view's first token. So draws depend neither on microbatches nor on recomputation.
struct Draws {
  uint64_t seed = 0;
  uint64_t stream = 0;
  int64_t first = 0;
};

/// A factor in millionths, so that capacities are exact integers.
constexpr int64_t kMillion = 1000000;
/// ceil(tokens / experts * factor).
constexpr int64_t expert_capacity(int64_t tokens, int64_t experts, int64_t factor) {
  return (tokens * factor + experts * kMillion - 1) / (experts * kMillion);
}
/// max(1, floor(factor * tokens / experts)), and at most `tokens`.
constexpr int64_t tokens_per_expert(int64_t tokens, int64_t experts, int64_t factor) {
  const int64_t share = tokens * factor / (experts * kMillion);
  const int64_t wanted = share > 0 ? share : 1;
  return wanted < tokens ? wanted : tokens;
}

/// kept = ids with -1 in the place of dropped choices. First, if `threshold` > 0 (K = 2), the second expert stays with
/// probability min(1, g2 / (g1 + g2) / threshold). Then, if `factor` > 0, each expert takes at most
/// expert_capacity(non-padding tokens of the row, E, factor) choices of a row: all first choices in token order, then
/// all second ones, and so on. `dropped` counts the choices that the capacity refused.
struct RouterDrop {
  View ids;    ///< i32 [T, K]
  View gates;  ///< stat [T, K]
  View group;  ///< i32 [T]
  int64_t experts;
  float threshold = 0;
  Draws draws = {};        ///< one number per token
  int64_t factor = 0;      ///< in millionths
  int64_t row_length = 1;  ///< divides T
  View kept;               ///< i32 [T, K]
  View dropped;            ///< i32 [1]

  static constexpr const char* name = "router_drop";
  static constexpr auto fields() {
    return std::array{in("ids", &RouterDrop::ids), in("gates", &RouterDrop::gates), in("group", &RouterDrop::group),
                      out("kept", &RouterDrop::kept), inout("dropped", &RouterDrop::dropped)};
  }
};

/// y = (y when `accumulate`) + x * u, u uniform in [1 - amount, 1 + amount) for each element.
struct RouterJitter {
  View x;  ///< [T, D]
  float amount;
  Draws draws;
  View y;  ///< [T, D]
  bool accumulate = false;

  static constexpr const char* name = "router_jitter";
  static constexpr auto fields() { return std::array{in("x", &RouterJitter::x), inout("y", &RouterJitter::y)}; }
};

/// noisy = clean + n * softplus(raw), n standard normal for each element.
struct RouterNoise {
  View clean;  ///< stat [T, E]
  View raw;    ///< stat [T, E]
  Draws draws;
  View noisy;  ///< stat [T, E]

  static constexpr const char* name = "router_noise";
  static constexpr auto fields() {
    return std::array{in("clean", &RouterNoise::clean), in("raw", &RouterNoise::raw),
                      out("noisy", &RouterNoise::noisy)};
  }
};

/// load[t, i] = P(expert i is among the K best when its own noise is drawn again)
///            = Phi((clean_i - c_i) / softplus(raw_i)), c_i = the K-th largest of the noisy logits without i. K < E.
struct NoiseLoad {
  View clean;  ///< stat [T, E]
  View raw;    ///< stat [T, E]
  View noisy;  ///< stat [T, E]
  int64_t top_k;
  View load;  ///< stat [T, E]

  static constexpr const char* name = "noise_load";
  static constexpr auto fields() {
    return std::array{in("clean", &NoiseLoad::clean), in("raw", &NoiseLoad::raw), in("noisy", &NoiseLoad::noisy),
                      out("load", &NoiseLoad::load)};
  }
};

/// The gradients of RouterNoise, and of NoiseLoad if `coefficients` give what a unit of load adds to the loss. The
/// thresholds c_i of NoiseLoad are noisy logits of other experts and pass their part of the gradient on to them.
/// Padding: only d_noisy.
struct NoiseBackward {
  View clean;              ///< stat [T, E]
  View raw;                ///< stat [T, E]
  View noisy;              ///< stat [T, E]
  View d_noisy;            ///< stat [T, E]
  View group;              ///< i32 [T]
  View coefficients = {};  ///< stat [G, E]
  int64_t top_k;
  Draws draws;
  View d_clean;  ///< stat [T, E]
  View d_raw;    ///< stat [T, E]

  static constexpr const char* name = "noise_backward";
  static constexpr auto fields() {
    using N = NoiseBackward;
    return std::array{in("clean", &N::clean),      in("raw", &N::raw),
                      in("noisy", &N::noisy),      in("d_noisy", &N::d_noisy),
                      in("group", &N::group),      in("coefficients", &N::coefficients).or_absent(),
                      out("d_clean", &N::d_clean), out("d_raw", &N::d_raw)};
  }
};

/// ids[t, 0] = table[tokens[t]], -1 for padding.
struct TableRoute {
  View tokens;  ///< i32 [T], below V
  View table;   ///< i32 [V]
  View group;   ///< i32 [T]
  View ids;     ///< i32 [T, 1]

  static constexpr const char* name = "table_route";
  static constexpr auto fields() {
    return std::array{in("tokens", &TableRoute::tokens), in("table", &TableRoute::table),
                      in("group", &TableRoute::group), out("ids", &TableRoute::ids)};
  }
};

/// Each expert takes its tokens_per_expert(non-padding tokens of the row, E, factor) best-scored tokens of each row.
/// Among equal scores the lower position wins; scores that are not numbers come last. ids[t, e] = e where expert e
/// takes token t, else -1.
struct ExpertChoice {
  View scores;         ///< stat [T, E]
  View group;          ///< i32 [T]
  int64_t factor;      ///< in millionths
  int64_t row_length;  ///< divides T
  View ids;            ///< i32 [T, E]

  static constexpr const char* name = "expert_choice";
  static constexpr auto fields() {
    return std::array{in("scores", &ExpertChoice::scores), in("group", &ExpertChoice::group),
                      out("ids", &ExpertChoice::ids)};
  }
};

/// Cross-entropy of a softmax, with the chosen expert as the target:
///   loss += weight * inv_tokens * sum over t of -log scores[t, ids[t, 0]]
///   d_logits[t, i] = weight * inv_tokens * (scores[t, i] - [i is ids[t, 0]]), 0 for padding.
struct Distillation {
  View scores;      ///< stat [T, E]
  View ids;         ///< i32 [T, 1]
  View group;       ///< i32 [T]
  View inv_tokens;  ///< stat [1]
  float weight;
  View loss = {};      ///< stat [1]
  View d_logits = {};  ///< stat [T, E]

  static constexpr const char* name = "distillation";
  static constexpr auto fields() {
    using D = Distillation;
    return std::array{in("scores", &D::scores),
                      in("ids", &D::ids),
                      in("group", &D::group),
                      in("inv_tokens", &D::inv_tokens),
                      inout("loss", &D::loss).or_absent(),
                      out("d_logits", &D::d_logits).or_absent()};
  }
};

void check(const RouterDrop& op);
void check(const RouterJitter& op);
void check(const RouterNoise& op);
void check(const NoiseLoad& op);
void check(const NoiseBackward& op);
void check(const TableRoute& op);
void check(const ExpertChoice& op);
void check(const Distillation& op);

}  // namespace moe
