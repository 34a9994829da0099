// The warning of a routing that collapses.

#include "train/routing_alarm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/tiny_run.h"

namespace moe {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr int64_t kExperts = 16, kTopK = 2;

/// A dense layer and two with experts.
ModelConfig config() {
  ModelConfig config;
  config.num_hidden_layers = 3;
  config.first_k_dense_replace = 1;
  config.n_routed_experts = kExperts;
  config.num_experts_per_tok = kTopK;
  return config;
}

/// Counts in which the first `used` experts of a layer share all choices.
std::vector<int32_t> counts(int64_t used_in_first, int64_t used_in_second) {
  std::vector<int32_t> all;
  for (const int64_t used : {used_in_first, used_in_second}) {
    for (int64_t e = 0; e < kExperts; ++e) all.push_back(e < used ? static_cast<int32_t>(960 / used) : 0);
  }
  return all;
}

/// The warnings of so many steps with the same counts.
std::vector<std::string> steps(RoutingAlarm& alarm, int64_t& step, int64_t count, const std::vector<int32_t>& counts) {
  std::vector<std::string> all;
  for (int64_t i = 0; i < count; ++i) {
    for (std::string& warning : alarm.after(++step, counts)) all.push_back(std::move(warning));
  }
  return all;
}

TEST(RoutingAlarm, IsSilentWhereTokensSpread) {
  RoutingAlarm alarm(config());
  int64_t step = 0;
  EXPECT_THAT(steps(alarm, step, 40, counts(16, 12)), IsEmpty());
  EXPECT_THAT(steps(alarm, step, 40, counts(8, 6)), IsEmpty()) << "a task that needs fewer experts is no collapse";
}

TEST(RoutingAlarm, NamesTheLayerOnceWhenItsTokensComeToChooseTheSameExperts) {
  RoutingAlarm alarm(config());
  int64_t step = 0;
  ASSERT_THAT(steps(alarm, step, 20, counts(16, 16)), IsEmpty());
  const auto warnings = steps(alarm, step, 30, counts(16, 3));
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_THAT(warnings[0], HasSubstr("step 30: the routing of layer 2 collapses"));
  EXPECT_THAT(warnings[0], HasSubstr("3.0 of 16 experts in effect (at least 2), where it was 16.0 before"));
  EXPECT_THAT(warnings[0], HasSubstr("balance.alpha_expert"));
  EXPECT_EQ(steps(alarm, step, 30, counts(16, 2)).size(), 1U) << "again when it falls as much once more";
  EXPECT_EQ(steps(alarm, step, 10, counts(2, 2)).size(), 1U) << "the other layer";
}

/// Single steps with few tokens are no collapse.
TEST(RoutingAlarm, LooksAtSomeStepsTogether) {
  RoutingAlarm alarm(config());
  int64_t step = 0;
  steps(alarm, step, 10, counts(16, 16));
  std::vector<std::string> warnings;
  for (int64_t e = 0; e < 40; ++e) {
    std::vector<int32_t> one(2 * kExperts, 0);  // each step's tokens choose two experts, other ones each time
    for (const int64_t layer : {0, 1}) {
      one[static_cast<size_t>(layer * kExperts + 2 * e % kExperts)] = 100;
      one[static_cast<size_t>(layer * kExperts + (2 * e + 1) % kExperts)] = 100;
    }
    for (std::string& warning : alarm.after(++step, one)) warnings.push_back(std::move(warning));
  }
  EXPECT_THAT(warnings, IsEmpty());
}

TEST(RoutingAlarm, TellsOfAModelThatBeginsCollapsed) {
  RoutingAlarm alarm(config());
  int64_t step = 0;
  const auto warnings = steps(alarm, step, 10, counts(2, 16));
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_THAT(warnings[0], HasSubstr("layer 1"));
  EXPECT_THAT(warnings[0], HasSubstr("from the beginning on"));
}

TEST(RoutingAlarm, IsSilentWithoutExperts) {
  ModelConfig dense = config();
  dense.n_routed_experts = 0;
  RoutingAlarm alarm(dense);
  for (int64_t step = 1; step <= 30; ++step) EXPECT_THAT(alarm.after(step, {}), IsEmpty());
}

/// A router that learns in huge steps and without a balance loss comes to choose the same experts for all tokens. A run
/// that begins with such a model says so; one that begins with random weights, which spread, does not.
TEST(RoutingAlarm, IsPartOfARun) {
  test::TinyRun tiny;
  const auto run = [&](const std::string& name, std::vector<std::string> set) {
    set.insert(set.end(), {"train.steps=20", "model.n_routed_experts=64", "balance.alpha_expert=0"});
    return test::said([&] { tiny.train(name, set); });
  };
  EXPECT_THAT(run("calm", {"optimizer.learning_rate=1e-6"}), testing::Not(HasSubstr("collapses")));
  run("wild", {"optimizer.learning_rate=0.1"});
  EXPECT_THAT(run("next", {"model.from=" + (tiny / "wild").string(), "optimizer.learning_rate=1e-6"}),
              HasSubstr("step 10: the routing of layer 0 collapses"));
}

}  // namespace
}  // namespace moe
