// Which of several ranks holds the others up, and that slow work is none that hangs. Times are numbers here.

#include "comm/standstill.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moe {
namespace {

using testing::HasSubstr;

constexpr HangLimits kLimits{.seconds = 10, .first_step_seconds = 100, .times_longest = 4};
constexpr int kNobody = RankProgress::kNobody;

/// Ranks that have left the first step at second 0.
Standstill second_step(int ranks, const HangLimits& limits = kLimits) {
  Standstill all(limits, 0);
  EXPECT_FALSE(all.find(7, 0));
  for (int rank = 0; rank < ranks; ++rank) all.hear(rank, {.count = 1}, 0);
  EXPECT_FALSE(all.find(8, 0));
  return all;
}

TEST(RankProgress, IsSentAsText) {
  const RankProgress progress{.count = 1ull << 60, .waits_for = 3, .still_seconds = 2.5, .waits_for_system = true};
  const auto read = RankProgress::parse(progress.text());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->count, progress.count);
  EXPECT_EQ(read->waits_for, 3);
  EXPECT_EQ(read->still_seconds, 2.5);
  EXPECT_TRUE(read->waits_for_system);
  EXPECT_FALSE(RankProgress::parse(""));
  EXPECT_FALSE(RankProgress::parse("1 2"));
}

TEST(Standstill, NamesTheRankThatWaitsForNone) {
  Standstill all = second_step(4);
  for (int rank = 0; rank < 4; ++rank) {
    all.hear(rank, {.count = 1, .waits_for = rank == 2 ? kNobody : 2, .still_seconds = rank == 2 ? 1.0 : 9.0}, 9);
  }
  EXPECT_FALSE(all.find(8, 10));
  const auto hang = all.find(8, 10.5);
  ASSERT_TRUE(hang);
  EXPECT_EQ(hang->rank, 2);
  EXPECT_THAT(hang->why, HasSubstr("has done nothing for 10 s, and the others wait"));
}

// Hosts of GPUs do not know what their devices wait for.
TEST(Standstill, NamesTheFirstOfSeveralThatStopped) {
  Standstill all = second_step(3);
  for (int rank = 0; rank < 3; ++rank) all.hear(rank, {.count = 1, .still_seconds = rank == 1 ? 9.5 : 9.0}, 10);
  EXPECT_EQ(all.find(8, 11).value().rank, 1);
}

TEST(Standstill, NamesARankOfACircle) {
  Standstill all = second_step(3);
  all.hear(0, {.count = 1, .waits_for = 1}, 1);
  all.hear(1, {.count = 1, .waits_for = 2}, 1);
  all.hear(2, {.count = 1, .waits_for = 1}, 1);
  const auto hang = all.find(8, 11).value();
  EXPECT_EQ(hang.rank, 2);
  EXPECT_THAT(hang.why, HasSubstr("all ranks wait for each other"));
}

TEST(Standstill, IsNoneWhileOneWorks) {
  Standstill all = second_step(2);
  for (int second = 1; second < 1000; ++second) {
    all.hear(0, {.count = 1, .waits_for = 1}, second);
    if (second % 9 == 0) all.hear(1, {.count = static_cast<uint64_t>(second)}, second);  // a long evaluation
    EXPECT_FALSE(all.find(8, second)) << second;
  }
}

TEST(Standstill, IsNoneWhileOneWaitsForADisk) {
  Standstill all = second_step(2);
  for (int second = 1; second < 1000; ++second) {
    all.hear(0, {.count = 1, .waits_for = 1}, second);
    all.hear(1, {.count = 1, .waits_for_system = true}, second);
    EXPECT_FALSE(all.find(8, second)) << second;
  }
}

TEST(Standstill, MayBeLongInTheFirstStep) {
  Standstill all(kLimits, 0);
  for (int rank = 0; rank < 2; ++rank) all.hear(rank, {.count = 1}, 0);
  EXPECT_FALSE(all.find(0, 5000));  // before it nothing counts
  EXPECT_FALSE(all.find(301, 5000));
  EXPECT_FALSE(all.find(301, 5100));
  EXPECT_TRUE(all.find(301, 5101));
}

// An operation that takes 20 s in each step takes 20 s in the next one too.
TEST(Standstill, MayBeAsLongAsWhatWasSeen) {
  Standstill all(kLimits, 0);
  EXPECT_FALSE(all.find(1, 0));
  for (int rank = 0; rank < 2; ++rank) all.hear(rank, {.count = 1}, 0);
  all.hear(0, {.count = 2}, 20);
  EXPECT_FALSE(all.find(2, 20));
  EXPECT_FALSE(all.find(2, 100));
  EXPECT_TRUE(all.find(2, 101));
}

TEST(Standstill, HasTheLimitThatIsGiven) {
  Standstill never(HangLimits{}, 0);
  for (int rank = 0; rank < 2; ++rank) never.hear(rank, {.count = 1}, 0);
  EXPECT_FALSE(never.find(1, 0));
  EXPECT_FALSE(never.find(2, 1e9));
  EXPECT_TRUE(second_step(2, {.seconds = 2, .first_step_seconds = 2}).find(8, 2.1));
}

TEST(Standstill, IsForgottenAfterAPauseOfThisProcess) {
  Standstill all = second_step(2);
  all.begin_again(5000);  // the machine was suspended
  EXPECT_FALSE(all.find(8, 5010));
  EXPECT_TRUE(all.find(8, 5011));
}

TEST(Standstill, IsNoMatterOfARankAlone) {
  Standstill all = second_step(2);
  all.forget(1);
  EXPECT_FALSE(all.find(8, 1000));
}

}  // namespace
}  // namespace moe
