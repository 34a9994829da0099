// Grids, overrides for the systems that take them, and the table of a study's costs.

#include "study/systems.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "study/plan.h"
#include "tests/study/studies.h"

namespace moe::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::string refusal(const std::string& section) {
  const TemporaryFolder folder;
  return error_of<UsageError>([&] { study_of(folder, "[study]\n" + section); });
}

TEST(Grid, IsEveryCombinationNamedByItsValues) {
  const TemporaryFolder folder;
  const Study study = study_of(
      folder, "[study]\ngrid = [\"k: model.num_experts_per_tok=1,2\", \"lr: optimizer.learning_rate=1e-3,2e-3\"]\n");
  EXPECT_THAT(study.systems, ElementsAre("k1-lr1e-3", "k1-lr2e-3", "k2-lr1e-3", "k2-lr2e-3"));
  EXPECT_EQ(study.jobs[2].run.model.num_experts_per_tok, 2);
  EXPECT_EQ(study.jobs[2].run.schedule.peak, 1e-3);
  EXPECT_EQ(study.baseline, "k1-lr1e-3");
}

TEST(Grid, CombinesWithTheSystems) {
  const TemporaryFolder folder;
  const Study study = study_of(folder,
                               "[study]\nsystems = [\"few: model.n_routed_experts=4\", \"many:\"]\n"
                               "grid = [\"k: model.num_experts_per_tok=1,2\"]\nbaseline = \"many-k2\"\n");
  EXPECT_THAT(study.systems, ElementsAre("few-k1", "few-k2", "many-k1", "many-k2"));
  EXPECT_EQ(study.jobs[1].run.model.n_routed_experts, 4);
  EXPECT_EQ(study.jobs[1].run.model.num_experts_per_tok, 2);
}

TEST(Grid, MistakesAreNamed) {
  EXPECT_THAT(refusal("grid = [\"k\"]\n"), HasSubstr("study.grid"));
  EXPECT_THAT(refusal("grid = [\"k: model.num_experts_per_tok\"]\n"), HasSubstr("one key with its values in each"));
  EXPECT_THAT(refusal("grid = [\"k: model.num_experts_per_tok=1 train.steps=2\"]\n"), HasSubstr("one key with its"));
  EXPECT_THAT(refusal("grid = [\"k: model.num_experts_per_tok=1,,2\"]\n"), HasSubstr("has \"\""));
  EXPECT_THAT(refusal("grid = [\"k: model.num_experts_per_tok=1,1\"]\n"), HasSubstr("k1 is there twice"));
  EXPECT_THAT(refusal("grid = [\"k: model.num_experts_per_tok=1,99\"]\n"), HasSubstr("system k99 of "));
  EXPECT_THAT(refusal("systems = []\n"), HasSubstr("at least one system, or study.grid"));
}

const char* const kThree =
    "[study]\nsystems = [\"dense: model.method=dense model.intermediate_size=16\", \"sparse:\", \"own: "
    "balance.alpha_expert=0.5\"]\nwhere_possible = [\"balance.alpha_expert=0.125\"]\n";

TEST(WherePossible, AppliesToTheSystemsThatTakeIt) {
  const TemporaryFolder folder;
  const Study study = study_of(folder, kThree);
  EXPECT_EQ(study.jobs[1].run.step.balance.alpha_expert, 0.125f);
  EXPECT_EQ(study.jobs[2].run.step.balance.alpha_expert, 0.5f) << "a system's own keys count more";
  ASSERT_EQ(study.jobs[0].left_out.size(), 1u);
  EXPECT_THAT(study.jobs[0].left_out[0], HasSubstr("balance.alpha_expert=0.125: "));
  EXPECT_TRUE(study.jobs[1].left_out.empty());
  EXPECT_TRUE(study.jobs[2].left_out.empty());
}

TEST(WherePossible, WhatNoSystemTakesIsAMistake) {
  EXPECT_THAT(refusal("systems = [\"a:\", \"b:\"]\nwhere_possible = [\"balance.alpa_expert=1\"]\n"),
              HasSubstr("none takes balance.alpa_expert=1"));
  EXPECT_THAT(
      refusal("systems = [\"a: model.num_experts_per_tok=99\"]\nwhere_possible = [\"balance.alpha_expert=1\"]\n"),
      testing::AllOf(HasSubstr("system a of "), Not(HasSubstr("where_possible"))));
}

SystemPlan planned(const std::string& system, int64_t total, int64_t activated, double flops) {
  return {.system = system,
          .total_params = total,
          .activated_params = activated,
          .flops_per_token = flops,
          .steps = 30,
          .seconds = 7200,
          .memory_bytes = int64_t{1} << 30,
          .left_out = {}};
}

TEST(PlanTable, MarksWhatIsNotMatched) {
  Study study;
  study.systems = {"base", "same", "other"};
  study.baseline = "base";
  for (const char* system : {"base", "same", "other", "base"})
    study.jobs.push_back({.system = system, .name = system, .run = {}});
  SystemPlan other = planned("other", 1021000, 490000, 3e6);
  other.fits = false;
  other.left_out = {"balance.alpha_expert=1: it has no experts"};
  const std::string text =
      plan_table(study, {planned("base", 1000000, 500000, 3e6), planned("same", 1020000, 490000, 2.95e6), other});
  EXPECT_THAT(text, HasSubstr("| base | 1.00M | 0.50M | 3.00M | 30 | 2 | 1.00 |\n"));
  EXPECT_THAT(text, HasSubstr("| same | 1.02M | 0.49M | 2.95M | 30 | 2 | 1.00 |\n")) << "2% is matched";
  EXPECT_THAT(text, HasSubstr("| other | 1.02M (+2.1%) * | 0.49M | 3.00M | 30 | 2 | 1.00 (does not fit) |\n"));
  EXPECT_THAT(text, HasSubstr("All 4 jobs: 8 hours."));
  EXPECT_THAT(text, HasSubstr("\nother does not take balance.alpha_expert=1: it has no experts\n"));
}

}  // namespace
}  // namespace moe::test
