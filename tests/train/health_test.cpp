// Each kind of trouble is told once, with its numbers, and a healthy run is told nothing.

#include "train/health.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr double kUniform = 5.0;

HealthFacts facts() { return {.uniform_loss = kUniform, .warmup_steps = 5, .layers = {1, 2}, .experts = 8}; }

StepReport report(double loss, double norm = 1, std::vector<int32_t> counts = std::vector<int32_t>(16, 10)) {
  StepReport made;
  made.loss = loss;
  made.gradient_norm = norm;
  made.counts = std::move(counts);
  return made;
}

/// A loss that falls like a power of the step, with a little noise.
double falling(int64_t step) {
  return 2 + 3 / std::sqrt(static_cast<double>(step)) + 0.05 * std::sin(7.0 * static_cast<double>(step));
}

struct Told {
  int64_t step;
  std::string kind;
  bool operator==(const Told&) const = default;
};

/// What is told of a run's steps, which `report_of` gives by their number.
template <class ReportOf>
std::vector<Told> told(int64_t steps, const ReportOf& report_of, HealthFacts of = facts(),
                       std::string* text = nullptr) {
  Health health(of);
  std::vector<Told> all;
  for (int64_t step = 1; step <= steps; ++step) {
    for (const HealthWarning& warning : health.watch(step, report_of(step))) {
      all.push_back({step, warning.kind});
      if (text != nullptr) *text = warning.text;
    }
  }
  return all;
}

TEST(Health, NothingIsToldOfARunThatLearns) {
  EXPECT_THAT(
      told(2000,
           [](int64_t step) { return report(falling(step), 1 + 0.3 * std::cos(3.0 * static_cast<double>(step))); }),
      IsEmpty());
}

TEST(Health, ALossAboveAUniformGuessAfterWarmUp) {
  // The mean of ten steps counts, so the tenth step is the first that can tell.
  EXPECT_THAT(told(300, [](int64_t) { return report(kUniform + 0.01); }), ElementsAre(Told{10, "uniform"}));
  EXPECT_THAT(told(300, [](int64_t) { return report(kUniform - 0.01); }), IsEmpty());
  HealthFacts long_warmup = facts();
  long_warmup.warmup_steps = 200;
  EXPECT_THAT(told(
                  300, [](int64_t) { return report(kUniform + 0.01); }, long_warmup),
              ElementsAre(Told{201, "uniform"}));
}

TEST(Health, ALossClearlyAboveAUniformGuessIsToldAtOnce) {
  std::string text;
  EXPECT_THAT(told(
                  5, [](int64_t step) { return report(step < 3 ? 5.0 : 9.25); }, facts(), &text),
              ElementsAre(Told{3, "uniform"}));
  EXPECT_THAT(text, HasSubstr("step 3: the loss is 9.25, above the 5 of a guess"));
}

TEST(Health, ALossThatIsNotOfTokensHasNoUniformGuess) {
  HealthFacts pairs = facts();
  pairs.uniform_loss = 0;
  EXPECT_THAT(told(
                  50, [](int64_t) { return report(100); }, pairs),
              IsEmpty());
}

TEST(Health, ASpikeIsFiveDeviationsAboveTheStepsBefore) {
  // Losses 1 and 3 in turn: mean 2, deviation sqrt(100 / 99).
  const auto with = [](double spike) {
    return [spike](int64_t step) { return report(step == 101 ? spike : step % 2 == 0 ? 1 : 3); };
  };
  const double edge = 2 + 5 * std::sqrt(100.0 / 99);
  HealthFacts high = facts();
  high.uniform_loss = 100;
  EXPECT_THAT(told(300, with(edge - 0.01), high), IsEmpty());
  EXPECT_THAT(told(300, with(edge + 0.01), high), ElementsAre(Told{101, "spike"}));
  EXPECT_THAT(told(
                  300, [](int64_t step) { return report(step == 20      ? 40
                                                        : step % 2 == 0 ? 1
                                                                        : 3); }, high),
              IsEmpty())
      << "fewer than 20 steps before it";
}

TEST(Health, AGradientTenTimesItsMedian) {
  const auto with = [](double norm) { return [norm](int64_t step) { return report(2, step == 50 ? norm : 0.5); }; };
  EXPECT_THAT(told(100, with(4.99)), IsEmpty());
  std::string text;
  EXPECT_THAT(told(100, with(5.01), facts(), &text), ElementsAre(Told{50, "gradient"}));
  EXPECT_THAT(text, HasSubstr("10 times the median of the 49 steps before"));
}

TEST(Health, ExpertsWithoutATokenIn100Steps) {
  std::vector<int32_t> counts(16, 10);
  counts[8 + 3] = 0;
  std::string text;
  EXPECT_THAT(told(99, [&](int64_t) { return report(2, 1, counts); }), IsEmpty());
  EXPECT_THAT(told(
                  300, [&](int64_t) { return report(2, 1, counts); }, facts(), &text),
              ElementsAre(Told{100, "dead"}));
  EXPECT_THAT(text, HasSubstr("1 of 8 experts of layer 2 had no token"));
  EXPECT_THAT(told(300, [&](int64_t step) { return step % 90 == 0 ? report(2) : report(2, 1, counts); }), IsEmpty())
      << "one token is enough";
}

TEST(Health, AnExpertWithMoreThanFourTimesTheMeanFor100Steps) {
  const auto with = [](int32_t most) {
    std::vector<int32_t> counts(16, 10);
    for (size_t e = 0; e < 8; ++e) counts[e] = e == 0 ? most : (80 - most) / 7;
    return counts;
  };
  EXPECT_THAT(told(300, [&](int64_t) { return report(2, 1, with(38)); }), IsEmpty());
  std::string text;
  EXPECT_THAT(told(
                  300, [&](int64_t) { return report(2, 1, with(45)); }, facts(), &text),
              ElementsAre(Told{100, "load"}));
  EXPECT_THAT(text, HasSubstr("one expert of layer 1 takes 4.5 times the mean load"));
  EXPECT_THAT(told(300, [&](int64_t step) { return report(2, 1, with(step % 50 == 0 ? 38 : 45)); }), IsEmpty());
}

TEST(Health, AMixtureWithoutChoicesHasNoDeadExperts) {
  EXPECT_THAT(told(300, [](int64_t) { return report(2, 1, std::vector<int32_t>(16, 0)); }), IsEmpty());
}

TEST(Health, KindsThatEndARunAreNamed) {
  EXPECT_THAT(health_kinds(), ElementsAre("uniform", "spike", "gradient", "dead", "load", "collapse"));
  EXPECT_TRUE(is_health_kind("dead"));
  EXPECT_FALSE(is_health_kind("death"));
}

}  // namespace
}  // namespace moe
