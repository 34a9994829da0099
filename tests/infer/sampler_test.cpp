// Each filter on logits made by hand, their order, and the frequencies of many draws.

#include "infer/sampler.h"

#include <cmath>
#include <limits>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/tokenizer/support.h"

namespace moe::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p) + 3.0));
  return logits;
}

std::vector<bool> all_of(const std::vector<float>& logits) { return std::vector<bool>(logits.size(), true); }

// Every id that 4000 draws give; each candidate below has at least 1% of the mass.
std::set<int32_t> support(const SamplingOptions& options, const std::vector<float>& logits, const Ids& history = {}) {
  Sampler sampler(options, all_of(logits));
  std::set<int32_t> found;
  for (uint64_t position = 0; position < 4000; ++position) found.insert(sampler.sample(logits, history, 0, position));
  return found;
}

int32_t greedy(const std::vector<float>& logits, const Ids& history = {}, double penalty = 1.0) {
  Sampler sampler({.repetition_penalty = penalty, .temperature = 0}, all_of(logits));
  return sampler.sample(logits, history, 0, 0);
}

TEST(Sampler, TemperatureZeroTakesTheLargestLogitAndTheLowestIdAmongEqualOnes) {
  EXPECT_EQ(greedy({1.0f, 5.0f, 2.0f}), 1);
  EXPECT_EQ(greedy({1.0f, 5.0f, 5.0f, 5.0f}), 1);
  EXPECT_EQ(greedy({-7.0f, -7.0f}), 0);
}

TEST(Sampler, PenaltyDividesPositiveLogitsAndMultipliesNegativeOnes) {
  EXPECT_EQ(greedy({3.0f, 2.0f, 1.0f}, {0}, 2.0), 1);     // 3 / 2 < 2
  EXPECT_EQ(greedy({3.0f, 1.4f, 1.0f}, {0}, 2.0), 0);     // 3 / 2 > 1.4
  EXPECT_EQ(greedy({-1.0f, -1.5f, -3.0f}, {0}, 2.0), 1);  // -1 * 2 < -1.5
  EXPECT_EQ(greedy({-1.0f, -2.5f, -3.0f}, {0}, 2.0), 0);  // -1 * 2 > -2.5
  EXPECT_EQ(greedy({3.0f, 1.4f, 1.0f}, {1}, 0.4), 1);     // below 1 it favours: 1.4 / 0.4 > 3
}

TEST(Sampler, PenaltyAppliesOnceHoweverOftenAnIdOccurs) { EXPECT_EQ(greedy({3.0f, 1.4f}, {0, 0, 0, 0}, 2.0), 0); }

TEST(Sampler, AddedPenaltiesCountPresenceOnceAndFrequencyEachTime) {
  const auto with = [](double presence, double frequency, const Ids& history) {
    const std::vector<float> logits{3.0f, 2.0f, -1.0f};
    Sampler sampler({.presence_penalty = presence, .frequency_penalty = frequency, .temperature = 0}, all_of(logits));
    return sampler.sample(logits, history, 0, 0);
  };
  EXPECT_EQ(with(1.5, 0, {0}), 1);
  EXPECT_EQ(with(0.9, 0, {0, 0, 0}), 0);
  EXPECT_EQ(with(0, 0.4, {0, 0}), 0);           // 3 - 0.8
  EXPECT_EQ(with(0, 0.4, {2, 0, 1, 0, 0}), 0);  // 3 - 1.2 > 2 - 0.4
  EXPECT_EQ(with(0, 0.4, {0, 2, 0, 0}), 1);     // 3 - 1.2 < 2
  EXPECT_EQ(with(0.3, 0.4, {0, 0}), 1);         // 3 - 0.3 - 0.8 < 2
  EXPECT_EQ(with(-5, 0, {2}), 2);               // below 0 it favours
  const std::vector<float> logits{4.0f, 1.4f};
  Sampler both({.repetition_penalty = 2, .presence_penalty = 1, .temperature = 0}, all_of(logits));
  EXPECT_EQ(both.sample(logits, Ids{0}, 0, 0), 1);  // 4 / 2 - 1 < 1.4: the repetition penalty comes first
}

TEST(Sampler, PenaltyChangesTheOddsOfADraw) {
  const std::vector<float> logits{2.0f, 1.0f};
  Sampler sampler({.repetition_penalty = 2.0}, all_of(logits));
  const Ids history{0};
  int count = 0;
  constexpr int kDraws = 40000;
  for (int i = 0; i < kDraws; ++i) count += sampler.sample(logits, history, 0, static_cast<uint64_t>(i)) == 0 ? 1 : 0;
  EXPECT_NEAR(count, kDraws / 2, 5 * std::sqrt(kDraws * 0.25));  // both logits are 1 after the penalty
}

TEST(Sampler, TopKKeepsTheMostLikelyAndTheLowestIdsAmongEqualOnes) {
  EXPECT_THAT(support({.top_k = 2}, logits_of({0.1, 0.3, 0.2, 0.4})), ElementsAre(1, 3));
  EXPECT_THAT(support({.top_k = 1}, logits_of({0.1, 0.3, 0.2, 0.4})), ElementsAre(3));
  EXPECT_THAT(support({.top_k = 3}, {1.0f, 1.0f, 2.0f, 1.0f, 1.0f}), ElementsAre(0, 1, 2));
  EXPECT_THAT(support({.top_k = 100}, logits_of({0.5, 0.5})), ElementsAre(0, 1));
}

TEST(Sampler, TopPKeepsTheFewestThatReachTheSum) {
  const auto logits = logits_of({0.15, 0.5, 0.05, 0.3});
  EXPECT_THAT(support({.top_p = 0.001}, logits), ElementsAre(1));
  EXPECT_THAT(support({.top_p = 0.49}, logits), ElementsAre(1));
  EXPECT_THAT(support({.top_p = 0.51}, logits), ElementsAre(1, 3));
  EXPECT_THAT(support({.top_p = 0.81}, logits), ElementsAre(0, 1, 3));
  EXPECT_THAT(support({.top_p = 0.96}, logits), ElementsAre(0, 1, 2, 3));
  // Reached exactly: equal logits have probabilities without rounding.
  EXPECT_THAT(support({.top_p = 0.5}, {0, 0}), ElementsAre(0));
  EXPECT_THAT(support({.top_p = 0.25}, {0, 0, 0, 0}), ElementsAre(0));
  EXPECT_THAT(support({.top_p = 0.5}, {0, 0, 0, 0}), ElementsAre(0, 1));
  EXPECT_THAT(support({.top_p = 0.75}, {0, 0, 0, 0}), ElementsAre(0, 1, 2));
}

TEST(Sampler, MinPKeepsAFractionOfTheLargestProbability) {
  const auto logits = logits_of({0.15, 0.5, 0.05, 0.3});
  EXPECT_THAT(support({.min_p = 0.09}, logits), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(support({.min_p = 1.0}, {0, 0, -1}), ElementsAre(0, 1));  // reached exactly
  EXPECT_THAT(support({.min_p = 0.11}, logits), ElementsAre(0, 1, 3));
  EXPECT_THAT(support({.min_p = 0.31}, logits), ElementsAre(1, 3));
  EXPECT_THAT(support({.min_p = 1.0}, logits), ElementsAre(1));
}

TEST(Sampler, FiltersApplyInTheDocumentedOrder) {
  // Top-p sees what top-k left: 0.4 of 0.7 is more than 0.55, so one token is enough.
  EXPECT_THAT(support({.top_k = 2, .top_p = 0.55}, logits_of({0.4, 0.3, 0.2, 0.1})), ElementsAre(0));
  EXPECT_THAT(support({.top_p = 0.55}, logits_of({0.4, 0.3, 0.2, 0.1})), ElementsAre(0, 1));
  // Top-p and min-p see the distribution after the temperature: at 0.5 the odds 3 : 2 become 9 : 4.
  EXPECT_THAT(support({.temperature = 0.5, .top_p = 0.65}, logits_of({0.6, 0.4})), ElementsAre(0));
  EXPECT_THAT(support({.top_p = 0.65}, logits_of({0.6, 0.4})), ElementsAre(0, 1));
  EXPECT_THAT(support({.temperature = 0.5, .min_p = 0.5}, logits_of({0.6, 0.4})), ElementsAre(0));
  EXPECT_THAT(support({.min_p = 0.5}, logits_of({0.6, 0.4})), ElementsAre(0, 1));
  // Min-p comes last: before top-p it would leave 0.92, of which 0.5 and 0.3 are enough.
  EXPECT_THAT(support({.top_p = 0.85, .min_p = 0.2}, logits_of({0.5, 0.3, 0.12, 0.08})), ElementsAre(0, 1, 2));
  // Top-k sees the logits after the penalty.
  EXPECT_THAT(support({.repetition_penalty = 4.0, .top_k = 1}, {2.0f, 1.0f}, {0}), ElementsAre(1));
}

// Pearson's statistic of `draws` draws against probabilities; beyond the bound a right sampler comes once in 10^7
// seeds.
void expect_frequencies(const SamplingOptions& options, const std::vector<float>& logits,
                        const std::vector<double>& probabilities) {
  constexpr int kDraws = 200000;
  Sampler sampler(options, all_of(logits));
  std::vector<int> counts(logits.size(), 0);
  for (int i = 0; i < kDraws; ++i) {
    ++counts[static_cast<size_t>(sampler.sample(logits, {}, 7, static_cast<uint64_t>(i)))];
  }
  double statistic = 0;
  double freedom = -1;
  for (size_t id = 0; id < counts.size(); ++id) {
    if (probabilities[id] == 0) {
      EXPECT_EQ(counts[id], 0) << "id " << id;
      continue;
    }
    const double expected = kDraws * probabilities[id];
    statistic += (counts[id] - expected) * (counts[id] - expected) / expected;
    freedom += 1;
  }
  // Wilson and Hilferty's approximation of the chi-square quantile, 5.2 standard deviations out.
  const double spread = 2.0 / (9.0 * freedom);
  EXPECT_LT(statistic, freedom * std::pow(1 - spread + 5.2 * std::sqrt(spread), 3));
}

TEST(Sampler, DrawsHaveTheModelsFrequencies) {
  const std::vector<double> p{0.02, 0.3, 0.08, 0.25, 0.05, 0.01, 0.19, 0.1};
  expect_frequencies({.seed = 11}, logits_of(p), p);
}

TEST(Sampler, TemperatureRaisesProbabilitiesToItsInverse) {
  const std::vector<double> p{0.02, 0.3, 0.08, 0.25, 0.05, 0.01, 0.19, 0.1};
  for (const double temperature : {0.5, 2.0}) {
    std::vector<double> expected;
    double total = 0;
    for (const double probability : p) total += std::pow(probability, 1 / temperature);
    for (const double probability : p) expected.push_back(std::pow(probability, 1 / temperature) / total);
    expect_frequencies({.temperature = temperature, .seed = 12}, logits_of(p), expected);
  }
}

TEST(Sampler, FilteredDrawsKeepTheirRelativeFrequencies) {
  const std::vector<double> p{0.02, 0.3, 0.08, 0.25, 0.05, 0.01, 0.19, 0.1};
  expect_frequencies({.top_k = 3, .seed = 13}, logits_of(p), {0, 0.3 / 0.74, 0, 0.25 / 0.74, 0, 0, 0.19 / 0.74, 0});
  expect_frequencies({.top_p = 0.6, .seed = 14}, logits_of(p), {0, 0.3 / 0.74, 0, 0.25 / 0.74, 0, 0, 0.19 / 0.74, 0});
  expect_frequencies({.min_p = 0.5, .seed = 15}, logits_of(p), {0, 0.3 / 0.74, 0, 0.25 / 0.74, 0, 0, 0.19 / 0.74, 0});
}

TEST(Sampler, ADrawDependsOnSeedSequenceAndPositionAlone) {
  const std::vector<float> logits(1000, 0.0f);
  const auto draws = [&](uint64_t seed, uint64_t sequence, bool others_between) {
    Sampler sampler({.seed = seed}, all_of(logits));
    Ids ids;
    for (uint64_t position = 0; position < 20; ++position) {
      if (others_between) sampler.sample(logits, Ids{1, 2}, sequence + 1, position);
      ids.push_back(sampler.sample(logits, {}, sequence, position));
    }
    return ids;
  };
  EXPECT_EQ(draws(1, 0, false), draws(1, 0, true));
  EXPECT_NE(draws(1, 0, false), draws(2, 0, false));
  EXPECT_NE(draws(1, 0, false), draws(1, 1, false));
  const Ids once = draws(1, 0, false);
  EXPECT_GT(std::set<int32_t>(once.begin(), once.end()).size(), 15u);
}

TEST(Sampler, MaskedIdsAreNeverChosen) {
  const std::vector<float> logits{50.0f, 1.0f, 40.0f, 0.5f, 60.0f};
  const std::vector<bool> allowed{false, true, false, true, false};
  Sampler best({.temperature = 0}, allowed);
  EXPECT_EQ(best.sample(logits, {}, 0, 0), 1);
  for (const SamplingOptions& options : std::vector<SamplingOptions>{
           {.temperature = 5.0}, {.top_k = 2}, {.top_p = 0.99}, {.min_p = 0.1}, {.repetition_penalty = 9.0}}) {
    Sampler sampler(options, allowed);
    std::set<int32_t> found;
    for (uint64_t i = 0; i < 2000; ++i) found.insert(sampler.sample(logits, {}, 0, i));
    EXPECT_THAT(found, ElementsAre(1, 3));
  }
}

TEST(Sampler, IdsWithoutATokenAndPaddedRowsAreMasked) {
  Json json = tokenizer_json({"a b"});
  json["model"]["vocab"]["ab"] = 260;  // so that 256 to 259 stand for nothing
  const Tokenizer tokenizer = make_tokenizer(json);
  const std::vector<bool> allowed = ids_with_token(tokenizer, 300);
  ASSERT_EQ(allowed.size(), 300u);
  for (size_t id = 0; id < 300; ++id) EXPECT_EQ(allowed[id], id < 256 || id == 260) << id;
}

TEST(Sampler, ExtremeLogitsStayInRange) {
  EXPECT_THAT(support({.temperature = 1e-30}, {1.0f, 2.0f, -3e38f}), ElementsAre(1));
  EXPECT_THAT(support({}, {3e38f, -3e38f, 1.0f}), ElementsAre(0));
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_THAT(support({}, {-kInfinity, 0.0f, -kInfinity}), ElementsAre(1));
  EXPECT_THAT(support({.top_p = 0.999}, {-kInfinity, 0.0f, -kInfinity}), ElementsAre(1));
}

TEST(Sampler, LogitsThatAreNoNumbersAreAnError) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto error_for = [](const std::vector<float>& logits) {
    return error_of<Error>([&] { Sampler({}, all_of(logits)).sample(logits, {}, 0, 0); });
  };
  EXPECT_THAT(error_for({0.0f, NAN, 1.0f}), HasSubstr("the logit of token 1 is nan"));
  EXPECT_THAT(error_for({0.0f, kInfinity}), HasSubstr("the logit of token 1 is inf"));
  EXPECT_THAT(error_for({-kInfinity, -kInfinity}), HasSubstr("no token can follow"));
}

TEST(Sampler, OptionsOutOfRangeAreNamed) {
  const auto error_for = [](const SamplingOptions& options) {
    return error_of<UsageError>([&] { validate(options); });
  };
  EXPECT_THAT(error_for({.repetition_penalty = 0}), HasSubstr("--repetition-penalty 0: expected"));
  EXPECT_THAT(error_for({.presence_penalty = NAN}), HasSubstr("--presence-penalty nan: expected"));
  EXPECT_THAT(error_for({.frequency_penalty = 101}), HasSubstr("--frequency-penalty 101: expected"));
  EXPECT_THAT(error_for({.temperature = -1}), HasSubstr("--temperature -1: expected"));
  EXPECT_THAT(error_for({.temperature = NAN}), HasSubstr("--temperature nan: expected"));
  EXPECT_THAT(error_for({.top_k = -2}), HasSubstr("--top-k -2: expected"));
  EXPECT_THAT(error_for({.top_p = 0}), HasSubstr("--top-p 0: expected"));
  EXPECT_THAT(error_for({.top_p = 1.5}), HasSubstr("--top-p 1.5: expected"));
  EXPECT_THAT(error_for({.min_p = 1.01}), HasSubstr("--min-p 1.01: expected"));
  EXPECT_NO_THROW(validate(SamplingOptions{}));
}

}  // namespace
}  // namespace moe::test
