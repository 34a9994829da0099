/// The silent errors of balance losses, on every backend.

#include <cmath>

#include "tests/conformance/router_step.h"

namespace moe::conformance {
namespace {

using oracle::read;
using oracle::read_indices;

TEST(Balance, UniformRoutingGivesABalanceLossOfAlphaForEveryK) {
  constexpr int64_t experts = 12, tokens = 24;
  on_every_target([&](const Runner& run) {
    for (const int64_t top_k : {1, 2, 6}) {
      for (const int devices : {1, 3, 12}) {
        RouterStep step(1, tokens, experts, top_k, 2);
        oracle::write(step.scores, Reals(step.scores.shape, 1.0 / experts));
        Indices ids(step.ids.shape), group(step.group.shape);
        for (int64_t t = 0; t < tokens; ++t) {
          group(t) = t * 2 / tokens;
          for (int64_t k = 0; k < top_k; ++k) ids(t, k) = (t * top_k + k) % experts;
        }
        oracle::write(step.ids, ids);
        oracle::write(step.group, group);
        step.count(run);
        step.balance(run, {12, 12}, tokens, 0.25f, devices);
        EXPECT_NEAR(read(step.loss)(0), 0.25, 1e-6) << "K = " << top_k << ", devices = " << devices;
      }
    }
  });
}

TEST(Balance, OneExpertTakingAllGivesABalanceLossOfAlphaTimesExpertsOverK) {
  on_every_target([&](const Runner& run) {
    RouterStep step(2, 10, 8, 1, 1);
    Reals scores(step.scores.shape);
    for (int64_t t = 0; t < 10; ++t) scores(t, 5) = 1;
    oracle::write(step.scores, scores);
    step.choose(run, false);
    step.count(run);
    step.balance(run, {10}, 10, 0.5f, 8);
    EXPECT_NEAR(read(step.loss)(0), 0.5 * 8, 1e-6);
  });
}

TEST(Balance, OpposedImbalanceOfTwoSequencesDoesNotCancel) {
  on_every_target([&](const Runner& run) {
    RouterStep step(3, 8, 2, 1, 2);
    Reals scores(step.scores.shape);
    Indices group(step.group.shape);
    for (int64_t t = 0; t < 8; ++t) {
      group(t) = t / 4;
      scores(t, t / 4) = 1;
    }
    oracle::write(step.scores, scores);
    oracle::write(step.group, group);
    step.choose(run, false);
    step.count(run);
    step.balance(run, {4, 4}, 8, 1, 2);
    EXPECT_NEAR(read(step.loss)(0), 2, 1e-6) << "each sequence is as unbalanced as can be";
  });
}

TEST(Balance, PackedSequencesAreBalancedApartAndWeighTheirTokens) {
  constexpr int64_t experts = 6, top_k = 2;
  on_every_target([&](const Runner& run) {
    RouterStep packed(4, 15, experts, top_k, 3);
    oracle::write(packed.group, read_indices(packed.s.indices({15}, {0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2})));
    packed.score(run, packed.s.normal(f32, {15, experts}));
    packed.choose(run, false);
    packed.count(run);
    packed.balance(run, {3, 5, 7}, 15, 0.1f, 3);
    packed.backward(run, false);

    double sum = 0;
    int64_t begin = 0;
    for (const int64_t length : {3, 5, 7}) {
      RouterStep alone(5, length, experts, top_k, 1);
      oracle::write(alone.scores, read(packed.scores.rows(begin, length)));
      alone.choose(run, false);
      alone.count(run);
      alone.balance(run, {length}, 15, 0.1f, 3);
      alone.backward(run, false);
      sum += read(alone.loss)(0);
      EXPECT_EQ(read(alone.d_logits).values(), read(packed.d_logits.rows(begin, length)).values());
      begin += length;
    }
    EXPECT_NEAR(read(packed.loss)(0), sum, 1e-7);
  });
}

TEST(Balance, PaddingChangesNeitherChoicesCountsLossNorGradients) {
  constexpr int64_t tokens = 9, padding = 6, experts = 8, top_k = 3;
  on_every_target([&](const Runner& run) {
    RouterStep plain(6, tokens, experts, top_k, 1), padded(7, tokens + padding, experts, top_k, 1);
    const View logits = padded.s.normal(f32, {tokens + padding, experts}, 2);
    Indices group(padded.group.shape, -1);
    for (int64_t t = 0; t < tokens; ++t) group(t) = 0;
    oracle::write(padded.group, group);
    const View d_gates = padded.s.normal(f32, {tokens + padding, top_k});
    plain.score(run, logits.rows(0, tokens));
    padded.score(run, logits);
    oracle::write(plain.d_gates, read(d_gates.rows(0, tokens)));
    oracle::write(padded.d_gates, read(d_gates));
    for (RouterStep* step : {&plain, &padded}) {
      step->choose(run, true);
      step->count(run);
      step->balance(run, {tokens}, tokens, 0.3f, 4);
      step->backward(run, true);
    }
    EXPECT_EQ(read_indices(padded.ids.rows(0, tokens)).values(), read_indices(plain.ids).values());
    EXPECT_EQ(read(padded.gates.rows(0, tokens)).values(), read(plain.gates).values());
    EXPECT_EQ(read_indices(padded.counts).values(), read_indices(plain.counts).values());
    EXPECT_EQ(read(padded.coefficients).values(), read(plain.coefficients).values());
    EXPECT_NEAR(read(padded.loss)(0), read(plain.loss)(0), 1e-6 * read(plain.loss)(0));
    EXPECT_EQ(read(padded.d_logits.rows(0, tokens)).values(), read(plain.d_logits).values());
    for (int64_t t = tokens; t < tokens + padding; ++t) {
      for (int64_t k = 0; k < top_k; ++k) {
        EXPECT_EQ(read_indices(padded.ids)(t, k), -1);
        EXPECT_EQ(read(padded.gates)(t, k), 0);
      }
      for (int64_t e = 0; e < experts; ++e) EXPECT_EQ(read(padded.d_logits)(t, e), 0);
    }
    int64_t counted = 0;
    for (const int64_t count : read_indices(padded.counts).values()) counted += count;
    EXPECT_EQ(counted, tokens * top_k) << "each token counts K times";
  });
}

// FIELD 1a: the wrong score in the loss of sigmoid gates. s = (0.75, 0.5, 0.25) gives P = s / 1.5, whose gradient by
// s_i is (c_i - sum of c P) / 1.5.
TEST(Balance, OfSigmoidScoresTakesEachDividedByTheirSum) {
  on_every_target([&](const Runner& run) {
    Store s(18);
    const View scores = s.reals(f32, {1, 3}, {0.75, 0.5, 0.25}), group = s.constant(i32, {1}, 0);
    const View coefficients = s.reals(f32, {1, 3}, {3, 0, 0}), loss = s.constant(f32, {1}, 0);
    const View d_logits = s.poison(f32, {1, 3});
    run(BalanceLoss{.scores = scores, .group = group, .coefficients = coefficients, .normalized = true, .loss = loss});
    EXPECT_NEAR(read(loss)(0), 3 * 0.5, 1e-6);
    run(RouterBackward{.scores = scores,
                       .ids = s.indices({1, 1}, {0}),
                       .d_gates = s.constant(f32, {1, 1}, 0),
                       .group = group,
                       .coefficients = coefficients,
                       .scoring = Scoring::sigmoid,
                       .balance_normalized = true,
                       .d_logits = d_logits});
    const double by_score[] = {(3 - 1.5) / 1.5, -1.5 / 1.5, -1.5 / 1.5}, slope[] = {0.1875, 0.25, 0.1875};
    for (int64_t e = 0; e < 3; ++e) EXPECT_NEAR(read(d_logits)(e), by_score[e] * slope[e], 1e-6);
  });
}

TEST(Balance, TheBalanceLossAloneMovesTheRouterInProportionToAlpha) {
  on_every_target([&](const Runner& run) {
    Reals gradients[2];
    for (const int which : {0, 1}) {
      RouterStep step(12, 30, 8, 2, 1);
      step.score(run, step.s.normal(f32, {30, 8}));
      step.choose(run, false);
      step.count(run);
      step.balance(run, {30}, 30, which == 0 ? 0.5f : 1.0f, 8);
      step.backward(run, false);
      gradients[which] = read(step.d_logits);
    }
    double largest = 0;
    for (int64_t i = 0; i < 30 * 8; ++i) {
      largest = std::max(largest, std::abs(gradients[0](i)));
      EXPECT_EQ(gradients[1](i), 2 * gradients[0](i));
    }
    EXPECT_GT(largest, 1e-4);
  });
}

}  // namespace
}  // namespace moe::conformance
