#pragma once
/// A router's operations in the order of a training step.

#include "tests/conformance/on_every_target.h"

namespace moe::conformance {

/// One router's step: choice, counts, coefficients, loss and gradient of the balance loss and of gates' gradients.
struct RouterStep {
  Store s;
  View scores, group, ids, gates, counts, coefficients, loss, d_gates, d_logits;

  RouterStep(uint64_t seed, int64_t tokens, int64_t experts, int64_t top_k, int64_t groups)
      : s(seed),
        scores(s.poison(f32, {tokens, experts})),
        group(s.constant(i32, {tokens}, 0)),
        ids(s.poison(i32, {tokens, top_k})),
        gates(s.poison(f32, {tokens, top_k})),
        counts(s.constant(i32, {groups, experts}, 0)),
        coefficients(s.constant(f32, {groups, experts}, 0)),
        loss(s.constant(f32, {1}, 0)),
        d_gates(s.constant(f32, {tokens, top_k}, 0)),
        d_logits(s.poison(f32, {tokens, experts})) {}

  void choose(const Runner& run, bool normalize) {
    run(RouterTopk{.scores = scores, .group = group, .ids = ids});
    run(RouterGates{.scores = scores, .ids = ids, .form = gate_form(normalize), .gates = gates});
  }
  void count(const Runner& run) {
    run(RouterCounts{.ids = ids, .group = group, .experts = scores.size(1), .counts = counts});
  }
  void balance(const Runner& run, const std::vector<int64_t>& group_tokens, double step_tokens, float alpha,
               int devices) {
    run(BalanceCoefficients{.counts = counts,
                            .group_tokens = s.indices({counts.size(0)}, group_tokens),
                            .inv_tokens = s.constant(f32, {1}, 1 / step_tokens),
                            .top_k = static_cast<int>(ids.size(1)),
                            .alpha = alpha,
                            .devices = devices,
                            .coefficients = coefficients,
                            .accumulate = true});
    run(BalanceLoss{.scores = scores, .group = group, .coefficients = coefficients, .loss = loss});
  }
  void backward(const Runner& run, bool normalize) {
    run(RouterBackward{.scores = scores,
                       .ids = ids,
                       .d_gates = d_gates,
                       .group = group,
                       .coefficients = coefficients,
                       .form = gate_form(normalize),
                       .d_logits = d_logits});
  }
  void score(const Runner& run, const View& logits) {
    const View identity = s.constant(f32, {logits.size(1), logits.size(1)}, 0);
    for (int64_t e = 0; e < logits.size(1); ++e) static_cast<float*>(identity.at(e).data)[e] = 1;
    run(RouterScores{.x = logits, .weight = identity, .scores = scores});
  }
};

}  // namespace moe::conformance
