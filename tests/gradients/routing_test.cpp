/// The router's gradient through scores, choice, gates and both balance losses.

#include "tests/gradients/differences.h"

namespace moe::oracle {
namespace {

constexpr DType f64 = DType::f64;
constexpr int64_t kTokens = 6, kHidden = 4, kExperts = 6;

/// One router whose loss is <gates, weights> plus the balance losses of the coefficients. The counts behind the
/// coefficients carry no gradient, so they are taken once.
struct Router {
  Store s;
  std::unique_ptr<Backend> oracle = make_oracle();
  int64_t top_k;
  bool normalize;
  View x = s.normal(f64, {kTokens, kHidden}), weight = s.normal(f64, {kExperts, kHidden});
  View group = s.indices({kTokens}, {0, 0, 0, 1, 1, -1});
  View scores = s.poison(f64, {kTokens, kExperts});
  View ids = s.poison(DType::i32, {kTokens, top_k}), gates = s.poison(f64, {kTokens, top_k});
  View gate_weights = s.normal(f64, {kTokens, top_k});
  View coefficients = s.constant(f64, {2, kExperts}, 0), balance_loss = s.poison(f64, {1});

  Router(int64_t k, bool normalize_gates) : s(static_cast<uint64_t>(100 + k)), top_k(k), normalize(normalize_gates) {}

  void choose() {
    oracle->run(RouterScores{.x = x, .weight = weight, .scores = scores});
    oracle->run(RouterTopk{.scores = scores, .group = group, .ids = ids});
    oracle->run(RouterGates{.scores = scores, .ids = ids, .form = gate_form(normalize), .gates = gates});
  }
  void add_coefficients(float alpha, int devices) {
    const View counts = s.constant(DType::i32, {2, kExperts}, 0);
    oracle->run(RouterCounts{.ids = ids, .group = group, .experts = kExperts, .counts = counts});
    oracle->run(BalanceCoefficients{.counts = counts,
                                    .group_tokens = s.indices({2}, {3, 2}),
                                    .inv_tokens = s.reals(f64, {1}, {0.2}),
                                    .top_k = static_cast<int>(top_k),
                                    .alpha = alpha,
                                    .devices = devices,
                                    .coefficients = coefficients,
                                    .accumulate = true});
  }
  double loss() {
    choose();
    write(balance_loss, Reals(balance_loss.shape));
    oracle->run(BalanceLoss{.scores = scores, .group = group, .coefficients = coefficients, .loss = balance_loss});
    double sum = read(balance_loss)(0);
    const Reals g = read(gates), w = read(gate_weights);
    for (int64_t i = 0; i < gates.elements(); ++i) sum += g(i) * w(i);
    return sum;
  }
  View d_logits() {
    const View result = s.poison(f64, {kTokens, kExperts});
    oracle->run(RouterBackward{.scores = scores,
                               .ids = ids,
                               .d_gates = gate_weights,
                               .group = group,
                               .coefficients = coefficients,
                               .form = gate_form(normalize),
                               .d_logits = result});
    return result;
  }
};

TEST(Gradients, RouterBackwardGivesTheGradientsOfInputAndCentroids) {
  for (const int64_t top_k : {1, 2, 3, 6}) {
    for (const bool normalize : {false, true}) {
      SCOPED_TRACE(fmt::format("K = {}, normalize = {}", top_k, normalize));
      Router router(top_k, normalize);
      router.choose();
      router.add_coefficients(0.7f, static_cast<int>(kExperts));
      router.add_coefficients(0.3f, 3);
      router.loss();
      const View d_logits = router.d_logits();
      const View dx = router.s.poison(f64, {kTokens, kHidden}), d_weight = router.s.poison(f64, {kExperts, kHidden});
      router.oracle->run(Gemm{.a = d_logits, .b = router.weight, .c = dx});
      router.oracle->run(Gemm{.a = d_logits, .b = router.x, .c = d_weight, .transpose_a = true});
      expect_gradient("dx", read(dx), router.x, [&] { return router.loss(); });
      expect_gradient("d_weight", read(d_weight), router.weight, [&] { return router.loss(); });
    }
  }
}

TEST(Gradients, RouterBackwardReplaysTheChoiceAndReadsNoGateOfPadding) {
  Router router(2, true);
  router.loss();
  Reals weights = read(router.gate_weights);
  weights(kTokens - 1, 0) = weights(kTokens - 1, 1) = NAN;
  write(router.gate_weights, weights);
  const Reals d_logits = read(router.d_logits());
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t e = 0; e < kExperts; ++e) {
      EXPECT_TRUE(std::isfinite(d_logits(t, e)));
      if (t == kTokens - 1) {
        EXPECT_EQ(d_logits(t, e), 0);
      }
    }
  }
}

}  // namespace
}  // namespace moe::oracle
