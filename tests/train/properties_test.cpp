// What routing methods promise beyond their formulas: in evaluation, across steps, with padding, of biases and gates.

#include <algorithm>
#include <cmath>

#include "nn/routers/hash_table.h"
#include "tests/support/running.h"

namespace moe {
namespace {

Batch four_rows(const MethodCase& test) {
  return packed_batch({{7, 4}, {11}, {3, 1, 5}, {9}}, 12, test.config.vocab_size, 9);
}

TEST(Methods, AHashedTokenLandsOnItsExpertInEveryStepAndInEvaluation) {
  Running run(method_case("hash"), four_rows(method_case("hash")));
  const auto expected = [&](int64_t layer) {
    std::vector<std::set<int64_t>> experts;
    const auto table = random_hash_table(run.test.config.vocab_size, 6, 1, layer);
    for (size_t t = 0; t < run.batch.tokens.size(); ++t) {
      experts.emplace_back();
      if (run.batch.segment_id[t] >= 0) experts.back() = {table[static_cast<size_t>(run.batch.tokens[t])]};
    }
    return experts;
  };
  const std::vector<int32_t> first = run.step(1, 1e-2).counts;
  for (int64_t number = 2; number <= 4; ++number) EXPECT_EQ(run.step(number, 1e-2).counts, first) << number;
  const auto chosen = run.chosen_in_evaluation(run.batch);
  EXPECT_EQ(chosen[0], expected(1));
  EXPECT_EQ(chosen[1], expected(2));
  EXPECT_NE(chosen[0], chosen[1]);
}

/// The expert that StableMoE's light router gives each token of a layer.
std::vector<std::set<int64_t>> light_choice(Running& run, const std::string& layer) {
  const std::vector<float> embedding = run.parameter(layer + ".router.light_embedding"),
                           centroids = run.parameter(layer + ".router.light_centroids");
  std::vector<std::set<int64_t>> experts;
  for (size_t t = 0; t < run.batch.tokens.size(); ++t) {
    experts.emplace_back();
    if (run.batch.segment_id[t] < 0) continue;
    std::vector<double> products(6, 0.0);
    for (size_t i = 0; i < 6 * kLightWidth; ++i) {
      const size_t column = i % kLightWidth;
      products[i / kLightWidth] +=
          static_cast<double>(embedding[static_cast<size_t>(run.batch.tokens[t]) * kLightWidth + column]) *
          static_cast<double>(centroids[i]);
    }
    experts.back() = {std::max_element(products.begin(), products.end()) - products.begin()};
  }
  return experts;
}

TEST(Methods, StableMoEsEvaluationFollowsTheLightRouterInBothStages) {
  MethodCase test = method_case("stable_moe");
  test.second_stage = 3;
  Running run(test, four_rows(test));
  std::vector<std::vector<std::set<int64_t>>> frozen;
  for (int64_t number = 1; number <= 5; ++number) {
    run.step(number, 1e-2);
    const auto chosen = run.chosen_in_evaluation(run.batch);
    EXPECT_EQ(chosen[0], light_choice(run, "layers.1")) << "after step " << number;
    EXPECT_EQ(chosen[1], light_choice(run, "layers.2")) << "after step " << number;
    if (number == 2) frozen = chosen;
    if (number > 2) {
      EXPECT_EQ(chosen, frozen) << "assignments are stable from the second stage on";
    }
  }
}

TEST(Methods, EvaluationMovesNoBias) {
  MethodCase test = method_case("loss_free");
  test.balance.bias_rate = 0.02f;
  Running watched(test, four_rows(test)), alone(test, four_rows(test));
  for (int64_t number = 1; number <= 3; ++number) {
    const StepReport a = watched.step(number, 1e-2), b = alone.step(number, 1e-2);
    EXPECT_EQ(a.loss, b.loss);
    EXPECT_EQ(a.counts, b.counts);
    const std::vector<float> before = watched.parameter("layers.1.router.bias");
    watched.chosen_in_evaluation(watched.batch);
    EXPECT_EQ(watched.parameter("layers.1.router.bias"), before);
    EXPECT_EQ(alone.parameter("layers.1.router.bias"), before);
    EXPECT_NE(before, std::vector<float>(6, 0.0f)) << "training moves it";
  }
}

// FIELD 1b: a bias in the gates. Shared by all experts it changes no choice, so it must change nothing at all.
TEST(Methods, ABiasThatAllExpertsShareChangesNothing) {
  for (const char* method : {"loss_free", "loss_free_softmax"}) {
    const MethodCase test = method_case(method);
    Running run(test, four_rows(test));
    const std::vector<float> plain = run.logits(run.batch.tokens);
    for (const char* layer : {"layers.1.router.bias", "layers.2.router.bias"}) {
      run.set_parameter(layer, std::vector<float>(6, 0.5f));
    }
    EXPECT_EQ(run.logits(run.batch.tokens), plain) << method;
    run.set_parameter("layers.1.router.bias", {0.5f, 0, 0.5f, 0, 0.5f, 0});
    EXPECT_NE(run.logits(run.batch.tokens), plain) << method << ": the choice depends on it";
  }
}

TEST(Methods, TheScalingFactorCountsOnce) {
  MethodCase scaled = method_case("loss_free"), plain = scaled;
  ASSERT_EQ(scaled.config.routed_scaling_factor, 2.5);
  plain.config.routed_scaling_factor = 1;
  Running a(scaled, four_rows(scaled)), b(plain, four_rows(plain));
  const std::vector<float> expected = a.logits(a.batch.tokens);
  const auto distance = [&] {  // largest difference over largest value
    const std::vector<float> found = b.logits(b.batch.tokens);
    float difference = 0, largest = 0;
    for (size_t i = 0; i < found.size(); ++i) {
      difference = std::max(difference, std::fabs(found[i] - expected[i]));
      largest = std::max(largest, std::fabs(expected[i]));
    }
    return difference / largest;
  };
  EXPECT_GT(distance(), 1e-2f);
  for (const char* name : {"layers.1.experts.down", "layers.2.experts.down"}) {
    std::vector<float> values = b.parameter(name);
    for (float& value : values) value *= 2.5f;
    b.set_parameter(name, values);
  }
  EXPECT_LT(distance(), 1e-5f);
}

// FIELD 1a: layers joined before the product cancel. All tokens are the same, so that each layer sends them all to one
// expert of two; the layers' routers are set so that these differ.
TEST(Methods, OppositeImbalancesOfTwoLayersDoNotCancel) {
  MethodCase test = method_case("switch", BalanceScope::step);
  test.config.n_routed_experts = 2;
  test.balance = {.alpha_expert = 1, .scope = BalanceScope::step};
  Batch batch = packed_batch({{12}, {12}}, 12, test.config.vocab_size, 9);
  std::fill(batch.tokens.begin(), batch.tokens.end(), 5);
  Running run(test, batch);
  const auto set_router = [&](const std::string& layer, bool exchanged) {  // decided, and for the other expert if so
    std::vector<float> router = run.parameter(layer + ".router");
    for (float& weight : router) weight *= 10;
    if (exchanged) std::rotate(router.begin(), router.begin() + static_cast<int64_t>(router.size()) / 2, router.end());
    run.set_parameter(layer + ".router", router);
  };
  const std::vector<int32_t> chosen = run.step(1, 0).counts;
  set_router("layers.1", false);
  set_router("layers.2", (chosen[0] > 0) == (chosen[2] > 0));
  const StepReport report = run.step(2, 0);
  EXPECT_EQ(report.counts[0] + report.counts[2], 24);
  EXPECT_EQ(report.counts[1] + report.counts[3], 24) << "together the layers look balanced";
  for (const int64_t layer : {0, 1}) EXPECT_GT(report.router_loss(RouterLoss::expert, layer), 1.2) << "1 is balance";
}

TEST(Methods, TheRouterHasAGradientForEveryKNormalisationAndScoring) {
  for (const Scoring scoring : {Scoring::softmax, Scoring::sigmoid}) {
    for (const int64_t k : {1, 2, 5, 6}) {
      for (const bool normalized : {false, true}) {
        MethodCase test = method_case("deepseekmoe");
        test.balance = {};
        test.config.scoring_func = scoring;
        test.config.num_experts_per_tok = k;
        test.config.norm_topk_prob = normalized;
        Running run(test, four_rows(test));
        run.step(1, 0);
        for (size_t p = 0; p < run.under.run.table().size(); ++p) {
          if (run.under.run.table()[p].kind != ParameterKind::router) continue;
          float largest = 0;
          for (const float value : download_floats(*run.device, run.under.run.gradients()[p])) {
            largest = std::max(largest, std::fabs(value));
          }
          EXPECT_GT(largest, 1e-5f) << name(scoring) << ", K = " << k << ", normalised: " << normalized;
        }
      }
    }
  }
}

// Rows queue apart, so a step drops what its rows drop; and every choice is counted before.
TEST(Methods, AStepsDroppedChoicesAreThoseOfItsRows) {
  for (const char* method : {"switch_original", "gshard_original"}) {
    MethodCase test = method_case(method);
    test.config.second_expert_threshold = test.config.router_jitter = 0;
    const Batch batch = four_rows(test);
    const StepReport whole = one_step(test, batch, 2).report;
    std::vector<int32_t> dropped(2, 0), counts(12, 0);
    for (int64_t row = 0; row < batch.rows; ++row) {
      const Batch part = batch_rows(batch, row, 1);
      const StepReport report = one_step(test, part, 1).report;
      for (size_t i = 0; i < 12; ++i) counts[i] += report.counts[i];
      for (size_t layer = 0; layer < 2; ++layer) dropped[layer] += report.dropped[layer];
    }
    EXPECT_EQ(whole.dropped, dropped) << method;
    EXPECT_EQ(whole.counts, counts) << method;
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), int64_t{0}),
              2 * batch.num_tokens * test.config.num_experts_per_tok);
    EXPECT_GT(dropped[0] + dropped[1], 0) << method;
  }
}

TEST(Methods, DrawsDifferByPurposeLayerStepAndSeed) {
  const RouteMode mode{.training = true, .seed = 3, .step = 7};
  RouteMode next = mode, other = mode;
  next.step = 8;
  other.seed = 4;
  const auto number = [](const Draws& draws) { return Random(draws.seed, draws.stream).bits(0); };
  const std::set<uint64_t> numbers = {number(mode.draws("router_noise", 1)), number(mode.draws("router_jitter", 1)),
                                      number(mode.draws("router_noise", 2)), number(next.draws("router_noise", 1)),
                                      number(other.draws("router_noise", 1))};
  EXPECT_EQ(numbers.size(), 5u);
}

TEST(Methods, NoiseJitterAndThinningAreOfTrainingAlone) {
  for (const char* method : {"noisy_topk", "switch_original", "gshard_original"}) {
    const MethodCase test = method_case(method);
    MethodCase without = test;
    without.config.router_jitter = without.config.second_expert_threshold = 0;
    Running a(test, four_rows(test)), b(without, four_rows(test));
    for (Running* run : {&a, &b}) spread_zero_parameters(run->under.run, *run->device);
    if (test.config.routing == RoutingMethod::noisy_topk) {
      for (const char* layer : {"layers.1.router.noise", "layers.2.router.noise"}) {
        b.set_parameter(layer, std::vector<float>(6 * 12, 0.0f));
      }
    }
    EXPECT_EQ(a.logits(a.batch.tokens), b.logits(b.batch.tokens)) << method;
    const double first = a.step(1, 0).loss;
    EXPECT_NE(first, b.step(1, 0).loss) << method << ": in training it matters";
    EXPECT_NE(first, a.step(2, 0).loss) << method << ": another step draws anew";
    EXPECT_EQ(first, a.step(1, 0).loss) << method;
  }
}

class Padding : public testing::TestWithParam<MethodCase> {
 protected:
  void expect_same(const Batch& plain, const Batch& padded) {
    ASSERT_EQ(plain.num_tokens, padded.num_tokens);
    ASSERT_LT(plain.tokens.size(), padded.tokens.size());
    MethodCase test = GetParam();
    if (test.config.has_router_bias()) test.balance.bias_rate = 0.02f;
    for (const BalanceScope scope : {BalanceScope::sequence, BalanceScope::step}) {
      test.balance.scope = scope;
      Running a(test, plain), b(test, padded);
      for (Running* run : {&a, &b}) spread_zero_parameters(run->under.run, *run->device);
      const StepReport expected = a.step(1, 1e-3), found = b.step(1, 1e-3);
      EXPECT_NEAR(found.loss, expected.loss, 2e-5 * expected.loss);
      EXPECT_NEAR(found.gradient_norm, expected.gradient_norm, 2e-5 * expected.gradient_norm);
      EXPECT_EQ(found.counts, expected.counts);
      EXPECT_EQ(found.dropped, expected.dropped);
      for (size_t i = 0; i < expected.losses.size(); ++i) {
        EXPECT_NEAR(found.losses[i], expected.losses[i], 2e-5 * (1e-3 + expected.losses[i]));
      }
      if (!test.config.has_router_bias()) continue;
      EXPECT_EQ(b.parameter("layers.1.router.bias"), a.parameter("layers.1.router.bias"));
      EXPECT_EQ(b.parameter("layers.2.router.bias"), a.parameter("layers.2.router.bias"));
    }
  }
};

TEST_P(Padding, RowsOfItChangeNeitherLossesNorCountsNorBiases) {
  const int64_t vocabulary = GetParam().config.vocab_size;
  expect_same(packed_batch({{7, 4}, {3, 1, 5}, {12}}, 12, vocabulary, 9),
              packed_batch({{7, 4}, {3, 1, 5}, {12}, {}, {}}, 12, vocabulary, 9));
}

INSTANTIATE_TEST_SUITE_P(All, Padding, testing::ValuesIn(method_cases()),
                         [](const auto& test) { return test.param.name; });

/// Longer rows move the places that draws belong to, so this is for methods without draws.
std::vector<MethodCase> cases_without_draws() {
  std::vector<MethodCase> cases = method_cases();
  std::erase_if(cases, [](const MethodCase& test) {
    const ModelConfig& config = test.config;
    return config.routing == RoutingMethod::noisy_topk || config.router_jitter > 0 ||
           config.second_expert_threshold > 0;
  });
  return cases;
}

class PaddingInRows : public Padding {};

TEST_P(PaddingInRows, ChangesNeitherLossesNorCountsNorBiases) {
  const int64_t vocabulary = GetParam().config.vocab_size;
  expect_same(packed_batch({{7, 4}, {3, 1, 5}, {12}}, 12, vocabulary, 9),
              packed_batch({{7, 4}, {3, 1, 5}, {12}}, 17, vocabulary, 9));
}

INSTANTIATE_TEST_SUITE_P(All, PaddingInRows, testing::ValuesIn(cases_without_draws()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace moe
