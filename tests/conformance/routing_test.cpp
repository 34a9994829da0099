/// The silent errors of routers, on every backend.

#include <cmath>
#include <set>

#include "tests/conformance/router_step.h"

namespace moe::conformance {
namespace {

using oracle::read;
using oracle::read_indices;

TEST(Routing, TiesGoToTheLowestExperts) {
  on_every_target([&](const Runner& run) {
    for (const int64_t experts : {3, 8, 64, 65, 160}) {
      RouterStep step(8, 2, experts, 3, 1);
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
      RouterStep step(9, 1, 10, 4, 1);
      Reals scores(step.scores.shape, -INFINITY);
      for (int64_t e = 0; e < finite; ++e) scores(0, 9 - e) = 0.25;
      oracle::write(step.scores, scores);
      step.choose(run, false);
      const std::vector<int64_t> ids = read_indices(step.ids).values();
      EXPECT_EQ(std::set<int64_t>(ids.begin(), ids.end()).size(), 4u);
    }
  });
}

TEST(Routing, ScoresThatAreNotNumbersComeLast) {
  on_every_target([&](const Runner& run) {
    RouterStep step(9, 3, 5, 3, 1);
    Reals scores(step.scores.shape, NAN);
    scores(0, 1) = 1, scores(0, 2) = 2, scores(0, 4) = 0.5;
    scores(1, 0) = -INFINITY, scores(1, 3) = -1;
    oracle::write(step.scores, scores);
    step.choose(run, false);
    EXPECT_EQ(read_indices(step.ids).values(), (std::vector<int64_t>{2, 1, 4, 3, 0, 1, 0, 1, 2}));
  });
}

TEST(Routing, ExpertsTakeAsManyTokensAsPlannedWhateverTheScores) {
  constexpr int64_t tokens = 24, experts = 4;
  on_every_target([&](const Runner& run) {
    for (const double score : {static_cast<double>(NAN), static_cast<double>(-INFINITY), 0.25}) {
      Store s(16);
      const View ids = s.poison(i32, {tokens, experts});
      run(ExpertChoice{.scores = s.constant(f32, {tokens, experts}, score),
                       .group = s.constant(i32, {tokens}, 0),
                       .factor = 2 * kMillion,
                       .row_length = tokens,
                       .ids = ids});
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t e = 0; e < experts; ++e) EXPECT_EQ(read_indices(ids)(t, e), t < tokens / 2 ? e : -1);
      }
    }
  });
}

TEST(Routing, GatesAreTheScoresThemselvesUnlessNormalised) {
  on_every_target([&](const Runner& run) {
    for (const bool normalize : {false, true}) {
      RouterStep step(10, 20, 16, 4, 1);
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

// FIELD 1b: a bias folded into the mixing weights.
TEST(Routing, ASelectionBiasMovesTheChoiceAndNoGate) {
  on_every_target([&](const Runner& run) {
    for (const GateForm form : {GateForm::score, GateForm::normalized}) {
      Store s(16);
      const View scores = s.reals(f32, {1, 4}, {0.5, 0.25, 0.125, 0.0625}), bias = s.reals(f32, {4}, {0, 0, 0, 10});
      const View ids = s.poison(i32, {1, 2}), gates = s.poison(f32, {1, 2});
      run(RouterTopk{.scores = scores, .bias = bias, .group = s.constant(i32, {1}, 0), .ids = ids});
      EXPECT_EQ(read_indices(ids).values(), (std::vector<int64_t>{3, 0})) << "best first, bias included";
      run(RouterGates{.scores = scores, .ids = ids, .form = form, .gates = gates});
      const double sum = form == GateForm::score ? 1 : 0.5625;
      EXPECT_NEAR(read(gates)(0), 0.0625 / sum, 1e-7);
      EXPECT_NEAR(read(gates)(1), 0.5 / sum, 1e-7);
    }
  });
}

TEST(Routing, TheScalingFactorMultipliesGatesOfEveryFormOnce) {
  on_every_target([&](const Runner& run) {
    for (const GateForm form : {GateForm::score, GateForm::normalized, GateForm::softmax, GateForm::one}) {
      Store s(17);
      const View scores = form == GateForm::one ? View{} : s.reals(f32, {1, 3}, {0.5, 0.25, 0.125});
      const View ids = s.indices({1, 2}, {0, 2}), plain = s.poison(f32, {1, 2}), scaled = s.poison(f32, {1, 2});
      run(RouterGates{.scores = scores, .ids = ids, .form = form, .gates = plain});
      run(RouterGates{.scores = scores, .ids = ids, .form = form, .scale = 2.5f, .gates = scaled});
      for (const int64_t k : {0, 1}) EXPECT_NEAR(read(scaled)(k), 2.5 * read(plain)(k), 1e-6);
    }
  });
}

TEST(Routing, GatesHaveAGradientForEveryKExceptASingleNormalisedOne) {
  on_every_target([&](const Runner& run) {
    for (const int64_t top_k : {1, 2, 6}) {
      for (const bool normalize : {false, true}) {
        RouterStep step(11, 5, 8, top_k, 1);
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

TEST(Routing, BackwardReplaysTheGivenChoiceNotTheScoresOwn) {
  on_every_target([&](const Runner& run) {
    RouterStep step(13, 1, 4, 1, 1);
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
  oracle->run(RouterTopk{.scores = exact_scores, .group = group, .ids = exact_ids});
  const Reals exact = read(exact_scores);
  const Indices expected = read_indices(exact_ids);
  on_every_target([&](const Runner& run) {
    const View scores = s.poison(f32, {tokens, experts}), ids = s.poison(i32, {tokens, top_k});
    run(RouterScores{.x = x, .weight = weight, .scores = scores});
    run(RouterTopk{.scores = scores, .group = group, .ids = ids});
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
