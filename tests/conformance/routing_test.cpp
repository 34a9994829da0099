/// The silent errors of routers and balance losses (FIELD.md 1a, 1b), on every backend.

#include <cmath>
#include <set>

#include "tests/conformance/on_every_target.h"

namespace moe::conformance {
namespace {

using oracle::read;
using oracle::read_indices;

/// One router's step: choice, counts, coefficients, loss and gradient of the balance loss and of gates' gradients.
struct Step {
  Store s;
  View scores, group, ids, gates, counts, coefficients, loss, d_gates, d_logits;

  Step(uint64_t seed, int64_t tokens, int64_t experts, int64_t top_k, int64_t groups)
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
    run(RouterTopk{.scores = scores, .group = group, .normalize = normalize, .ids = ids, .gates = gates});
  }
  void count(const Runner& run) { run(RouterCounts{.ids = ids, .group = group, .counts = counts}); }
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
                       .normalize = normalize,
                       .d_logits = d_logits});
  }
  void score(const Runner& run, const View& logits) {
    const View identity = s.constant(f32, {logits.size(1), logits.size(1)}, 0);
    for (int64_t e = 0; e < logits.size(1); ++e) static_cast<float*>(identity.at(e).data)[e] = 1;
    run(RouterScores{.x = logits, .weight = identity, .scores = scores});
  }
};

TEST(Routing, UniformRoutingGivesABalanceLossOfAlphaForEveryK) {
  constexpr int64_t experts = 12, tokens = 24;
  on_every_target([&](const Runner& run) {
    for (const int64_t top_k : {1, 2, 6}) {
      for (const int devices : {1, 3, 12}) {
        Step step(1, tokens, experts, top_k, 2);
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

TEST(Routing, OneExpertTakingAllGivesABalanceLossOfAlphaTimesExpertsOverK) {
  on_every_target([&](const Runner& run) {
    Step step(2, 10, 8, 1, 1);
    Reals scores(step.scores.shape);
    for (int64_t t = 0; t < 10; ++t) scores(t, 5) = 1;
    oracle::write(step.scores, scores);
    step.choose(run, false);
    step.count(run);
    step.balance(run, {10}, 10, 0.5f, 8);
    EXPECT_NEAR(read(step.loss)(0), 0.5 * 8, 1e-6);
  });
}

TEST(Routing, OpposedImbalanceOfTwoSequencesDoesNotCancel) {
  on_every_target([&](const Runner& run) {
    Step step(3, 8, 2, 1, 2);
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

TEST(Routing, PackedSequencesAreBalancedApartAndWeighTheirTokens) {
  constexpr int64_t experts = 6, top_k = 2;
  on_every_target([&](const Runner& run) {
    Step packed(4, 15, experts, top_k, 3);
    oracle::write(packed.group, read_indices(packed.s.indices({15}, {0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2})));
    packed.score(run, packed.s.normal(f32, {15, experts}));
    packed.choose(run, false);
    packed.count(run);
    packed.balance(run, {3, 5, 7}, 15, 0.1f, 3);
    packed.backward(run, false);

    double sum = 0;
    int64_t begin = 0;
    for (const int64_t length : {3, 5, 7}) {
      Step alone(5, length, experts, top_k, 1);
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

TEST(Routing, PaddingChangesNeitherChoicesCountsLossNorGradients) {
  constexpr int64_t tokens = 9, padding = 6, experts = 8, top_k = 3;
  on_every_target([&](const Runner& run) {
    Step plain(6, tokens, experts, top_k, 1), padded(7, tokens + padding, experts, top_k, 1);
    const View logits = padded.s.normal(f32, {tokens + padding, experts}, 2);
    Indices group(padded.group.shape, -1);
    for (int64_t t = 0; t < tokens; ++t) group(t) = 0;
    oracle::write(padded.group, group);
    const View d_gates = padded.s.normal(f32, {tokens + padding, top_k});
    plain.score(run, logits.rows(0, tokens));
    padded.score(run, logits);
    oracle::write(plain.d_gates, read(d_gates.rows(0, tokens)));
    oracle::write(padded.d_gates, read(d_gates));
    for (Step* step : {&plain, &padded}) {
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

TEST(Routing, TiesGoToTheLowestExperts) {
  on_every_target([&](const Runner& run) {
    for (const int64_t experts : {3, 8, 64, 65, 160}) {
      Step step(8, 2, experts, 3, 1);
      oracle::write(step.scores, Reals(step.scores.shape, 0.125));
      Reals scores = read(step.scores);
      scores(1, experts - 1) = 0.5;
      oracle::write(step.scores, scores);
      step.choose(run, false);
      EXPECT_EQ(read_indices(step.ids).values(), (std::vector<int64_t>{0, 1, 2, experts - 1, 0, 1}));
    }
  });
}

TEST(Routing, ChosenExpertsAreDistinctEvenWhenScoresAreMinusInfinity) {
  on_every_target([&](const Runner& run) {
    for (const int64_t finite : {0, 1, 2}) {
      Step step(9, 1, 10, 4, 1);
      Reals scores(step.scores.shape, -INFINITY);
      for (int64_t e = 0; e < finite; ++e) scores(0, 9 - e) = 0.25;
      oracle::write(step.scores, scores);
      step.choose(run, false);
      const std::vector<int64_t> ids = read_indices(step.ids).values();
      EXPECT_EQ(std::set<int64_t>(ids.begin(), ids.end()).size(), 4u);
    }
  });
}

TEST(Routing, GatesAreTheScoresThemselvesUnlessNormalised) {
  on_every_target([&](const Runner& run) {
    for (const bool normalize : {false, true}) {
      Step step(10, 20, 16, 4, 1);
      step.score(run, step.s.normal(f32, {20, 16}));
      step.choose(run, normalize);
      for (int64_t t = 0; t < 20; ++t) {
        double sum = 0, chosen = 0;
        for (int64_t k = 0; k < 4; ++k) {
          const double score = read(step.scores)(t, read_indices(step.ids)(t, k));
          if (!normalize) {
            EXPECT_EQ(read(step.gates)(t, k), score);
          }
          sum += read(step.gates)(t, k);
          chosen += score;
        }
        EXPECT_NEAR(sum, normalize ? 1 : chosen, 1e-6);
      }
    }
  });
}

TEST(Routing, GatesHaveAGradientForEveryKExceptASingleNormalisedOne) {
  on_every_target([&](const Runner& run) {
    for (const int64_t top_k : {1, 2, 6}) {
      for (const bool normalize : {false, true}) {
        Step step(11, 5, 8, top_k, 1);
        step.score(run, step.s.normal(f32, {5, 8}));
        oracle::write(step.d_gates, read(step.s.normal(f32, {5, top_k})));
        step.choose(run, normalize);
        step.backward(run, normalize);
        double largest = 0;
        for (const double value : read(step.d_logits).values()) largest = std::max(largest, std::abs(value));
        if (top_k == 1 && normalize) {
          EXPECT_LT(largest, 1e-6) << "a gate that is always 1";
        } else {
          EXPECT_GT(largest, 1e-3) << "K = " << top_k << ", normalize = " << normalize;
        }
      }
    }
  });
}

TEST(Routing, TheBalanceLossAloneMovesTheRouterInProportionToAlpha) {
  on_every_target([&](const Runner& run) {
    Reals gradients[2];
    for (const int which : {0, 1}) {
      Step step(12, 30, 8, 2, 1);
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

TEST(Routing, BackwardReplaysTheGivenChoiceNotTheScoresOwn) {
  on_every_target([&](const Runner& run) {
    Step step(13, 1, 4, 1, 1);
    oracle::write(step.scores, read(step.s.reals(f32, {1, 4}, {0.4, 0.3, 0.2, 0.1})));
    oracle::write(step.ids, read_indices(step.s.indices({1, 1}, {2})));
    oracle::write(step.d_gates, Reals({1, 1}, 1));
    step.backward(run, false);
    for (int64_t e = 0; e < 4; ++e) {
      const double scores[] = {0.4, 0.3, 0.2, 0.1};
      EXPECT_NEAR(read(step.d_logits)(e), scores[e] * ((e == 2 ? 1 : 0) - 0.2), 1e-7);
    }
  });
}

TEST(Routing, ChoicesAgreeWithDoublePrecisionExceptWhereScoresAreNearlyEqual) {
  constexpr int64_t tokens = 1500, hidden = 256, experts = 64, top_k = 6;
  Store s(14);
  const View x = s.normal(bf16_type, {tokens, hidden}), weight = s.normal(bf16_type, {experts, hidden}, 0.006);
  const View group = s.constant(i32, {tokens}, 0);
  const View exact_scores = s.poison(f64, {tokens, experts}), exact_ids = s.poison(i32, {tokens, top_k});
  const auto in_double = [&](const View& view) { return s.reals(f64, view.shape, read(view).values()); };
  const auto oracle = make_oracle();
  oracle->run(RouterScores{.x = in_double(x), .weight = in_double(weight), .scores = exact_scores});
  oracle->run(RouterTopk{.scores = exact_scores,
                         .group = group,
                         .normalize = false,
                         .ids = exact_ids,
                         .gates = s.poison(f64, {tokens, top_k})});
  const Reals exact = read(exact_scores);
  const Indices expected = read_indices(exact_ids);
  on_every_target([&](const Runner& run) {
    const View scores = s.poison(f32, {tokens, experts}), ids = s.poison(i32, {tokens, top_k});
    run(RouterScores{.x = x, .weight = weight, .scores = scores});
    run(RouterTopk{
        .scores = scores, .group = group, .normalize = false, .ids = ids, .gates = s.poison(f32, {tokens, top_k})});
    const Indices found = read_indices(ids);
    int64_t near_ties = 0, different = 0;
    for (int64_t t = 0; t < tokens; ++t) {
      const double last = exact(t, expected(t, top_k - 1));
      double next = 0;  // the best score that was not chosen
      std::set<int64_t> chosen, chosen_here;
      for (int64_t k = 0; k < top_k; ++k) {
        chosen.insert(expected(t, k));
        chosen_here.insert(found(t, k));
      }
      for (int64_t e = 0; e < experts; ++e) next = chosen.contains(e) ? next : std::max(next, exact(t, e));
      const double gap = (last - next) / last;
      near_ties += gap > 1e-6 && gap < 1e-3;  // where a product rounded to bf16 would often choose others
      different += gap > 1e-6 && chosen != chosen_here;
    }
    EXPECT_GT(near_ties, 20);
    EXPECT_EQ(different, 0);
  });
}

TEST(Routing, ExpertsWithoutTokensGetExactZerosFromPoisonedBuffers) {
  constexpr int64_t tokens = 7, experts = 5;
  on_every_target([&](const Runner& run) {
    Store s(15);
    const View ids = s.constant(i32, {tokens, 1}, 3), offsets = s.poison(i32, {experts + 1});
    const View row_token = s.poison(i32, {tokens}), gradient = s.poison(f32, {experts, 4, 6});
    run(RoutePlan{.ids = ids,
                  .offsets = offsets,
                  .row_slot = s.poison(i32, {tokens}),
                  .row_token = row_token,
                  .slot_row = s.poison(i32, {tokens, 1})});
    EXPECT_EQ(read_indices(offsets).values(), (std::vector<int64_t>{0, 0, 0, 0, tokens, tokens}));
    run(GroupedGemmReduce{.a = s.normal(f32, {tokens, 4}),
                          .a_rows = row_token,
                          .b = s.normal(f32, {tokens, 6}),
                          .offsets = offsets,
                          .c = gradient});
    for (int64_t e = 0; e < experts; ++e) {
      for (const double value : read(gradient.at(e)).values()) {
        if (e == 3) {
          EXPECT_TRUE(std::isfinite(value) && value != 0);
        } else {
          EXPECT_EQ(value, 0);
        }
      }
    }
  });
}

}  // namespace
}  // namespace moe::conformance
