// Means, intervals, losses at equal cost and the table, against values computed by hand.

#include "study/table.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/study/studies.h"

namespace moe::test {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Summary, MeanAndIntervalAreStudentsOverSeeds) {
  const SystemSummary three = summary_of("a", {result_of("a", 1, 2.0), result_of("a", 2, 2.2), result_of("a", 3, 2.4)});
  EXPECT_NEAR(three.loss, 2.2, 1e-12);
  EXPECT_NEAR(three.loss_error, 4.303 * 0.2 / std::sqrt(3.0), 1e-12) << "t(2) = 4.303, s = 0.2";
  const SystemSummary two = summary_of("a", {result_of("a", 1, 2.0), result_of("a", 2, 2.2)});
  EXPECT_NEAR(two.loss_error, 1.2706, 1e-10) << "t(1) = 12.706, s / sqrt(2) = 0.1";
}

TEST(Summary, TheTableOfStudentsTGoesFarEnough) {
  const auto interval = [](int seeds) {  // losses 1 and 3 by turns: s^2 = n / (n - 1) for an even n
    std::vector<JobResult> results;
    for (int seed = 0; seed < seeds; ++seed) results.push_back(result_of("a", seed, seed % 2 == 0 ? 1 : 3));
    return summary_of("a", results).loss_error * std::sqrt(seeds - 1.0);
  };
  EXPECT_NEAR(interval(10), 2.262, 1e-9);
  EXPECT_NEAR(interval(12), 2.201, 1e-9);
  EXPECT_NEAR(interval(22), 2.080, 1e-9);
  EXPECT_NEAR(interval(40), 2.0227, 1e-4);
}

TEST(Summary, OfOneSeedHasTheIntervalOverDocuments) {
  EXPECT_EQ(summary_of("a", {result_of("a", 1, 2.0)}).loss_error, 0.03);
}

TEST(Summary, KeepsTheStudysOrderAndLeavesOutWhatHasNoResult) {
  Study study;
  study.systems = {"c", "a", "b"};
  const auto systems = summarize(study, {result_of("a", 1, 2), result_of("c", 1, 3), result_of("a", 2, 2)});
  ASSERT_EQ(systems.size(), 2u);
  EXPECT_EQ(systems[0].name, "c");
  EXPECT_EQ(systems[1].name, "a");
  EXPECT_EQ(systems[1].results.size(), 2u);
}

// The curve is 4 at 50 FLOPs and 10 s, 3 at 100 and 20, 2 at 150 and 30.
TEST(EqualCost, LossesAreInterpolatedBetweenEvaluations) {
  const SystemSummary system = summary_of("a", {result_of("a", 1, 2)});
  EXPECT_EQ(loss_at_flops(system, 50), 4.0);
  EXPECT_EQ(loss_at_flops(system, 100), 3.0);
  EXPECT_NEAR(*loss_at_flops(system, 110), 2.8, 1e-12);
  EXPECT_EQ(loss_at_flops(system, 150), 2.0);
  EXPECT_NEAR(*loss_at_seconds(system, 12.5), 3.75, 1e-12);
}

TEST(EqualCost, ThereIsNoLossBeforeTheFirstEvaluation) {
  const SystemSummary system = summary_of("a", {result_of("a", 1, 2)});
  EXPECT_EQ(loss_at_flops(system, 49), std::nullopt);
  EXPECT_EQ(loss_at_seconds(system, 1), std::nullopt);
}

TEST(EqualCost, ARunThatUsedLessCountsWithItsLastLoss) {
  EXPECT_EQ(loss_at_flops(summary_of("a", {result_of("a", 1, 2)}), 1000), 2.0);
}

TEST(EqualCost, IsTheMeanOverSeedsAndNothingIfOneHasNone) {
  JobResult late = result_of("a", 2, 4);
  const SystemSummary system = summary_of("a", {result_of("a", 1, 2), late});
  EXPECT_NEAR(*loss_at_flops(system, 110), 3.8, 1e-12);
  late.curve.erase(late.curve.begin(), late.curve.end() - 1);
  EXPECT_EQ(loss_at_flops(summary_of("a", {result_of("a", 1, 2), late}), 110), std::nullopt);
}

std::string table_of(const std::vector<std::vector<JobResult>>& systems) {
  Study study;
  study.title = "A title";
  std::vector<JobResult> all;
  for (const auto& results : systems) {
    study.systems.push_back(results.front().system);
    all.insert(all.end(), results.begin(), results.end());
  }
  return study_table(study, summarize(study, all));
}

TEST(Table, HasARowPerSystem) {
  JobResult a = result_of("a", 1, 2.0), b = result_of("a", 2, 2.2);
  b.seconds = 40;
  b.max_over_mean_load = 2.5;
  b.dropped = 0.25;
  const std::string text = table_of({{a, b}});
  EXPECT_THAT(text, HasSubstr("A title: validation loss in nats per token"));
  EXPECT_THAT(text, HasSubstr("| system | seeds | loss | bits per byte | parameters | activated |"));
  EXPECT_THAT(text, HasSubstr("| a | 2 | 2.1000 ± 1.2706 | 1.0500 | 3.00M | 2.00M | 0.0 | 35 | 100 | 3.00 | 2.00 | "
                              "12.5% |\n"));
}

TEST(Table, ShowsNoDropsWhereNothingWasDropped) {
  EXPECT_THAT(table_of({{result_of("a", 1, 2)}}), HasSubstr("| 3.00 | 1.50 |  |\n"));
}

TEST(Table, RanksAtEqualFlopsTimeAndMemory) {
  JobResult slow = result_of("slow", 1, 1.0), fast = result_of("fast", 1, 1.5), big = result_of("big", 1, 1.2);
  for (CurvePoint& point : slow.curve) point.seconds *= 2;  // 2 at 40 s, and no loss before 20 s
  slow.seconds = 60;
  for (JobResult* result : {&slow, &fast, &big}) result->flops_per_sequence_causal = 4000000000000;
  big.flops_per_sequence_causal *= 2;  // has used what the others use at the end after 15 of 30 steps
  big.memory_bytes *= 2;
  const std::string text = table_of({{slow}, {fast}, {big}});
  EXPECT_THAT(text, HasSubstr("At equal FLOPs (120.0 TFLOP): slow 1.0000, fast 1.5000, big 2.7000\n"));
  EXPECT_THAT(text, HasSubstr("At equal time (30 s): big 1.2000, fast 1.5000, slow 2.5000\n"));
  EXPECT_THAT(text, HasSubstr("At equal memory, not beaten by any that needs no more: slow\n"));
}

TEST(Table, MarksWhoSeesLaterTokens) {
  JobResult choice = result_of("choice", 1, 2), other = result_of("other", 1, 2);
  choice.settings = "[model]\nrouting = \"expert_choice\"\n";
  const std::string text = table_of({{choice}, {other}});
  EXPECT_THAT(text, HasSubstr("| choice * | 1 |"));
  EXPECT_THAT(text, HasSubstr("| other | 1 |"));
  EXPECT_THAT(text, HasSubstr("not the loss of a language model"));
  EXPECT_THAT(table_of({{other}}), Not(HasSubstr("not the loss of a language model")));
}

TEST(Table, ASystemThatNeedsLessMemoryIsNotBeaten) {
  JobResult small = result_of("small", 1, 2), big = result_of("big", 1, 1), both = result_of("both", 1, 3);
  small.memory_bytes /= 2;
  EXPECT_THAT(table_of({{small}, {big}, {both}}), HasSubstr("needs no more: small, big\n"));
}

TEST(Table, SaysWhereNoSystemWasEvaluatedThatEarly) {
  JobResult early = result_of("early", 1, 2), late = result_of("late", 1, 2);
  early.curve = late.curve = {{30, 2, 30}};
  early.seconds = 10;
  early.curve[0].seconds = 10;
  const std::string text = table_of({{early}, {late}});
  EXPECT_THAT(text, HasSubstr("At equal time (10 s): early 2.0000\n"));
  early.curve[0].seconds = 11;
  EXPECT_THAT(table_of({{early}, {late}}), HasSubstr("At equal time (10 s): no evaluations that early\n"));
}

}  // namespace
}  // namespace moe::test
