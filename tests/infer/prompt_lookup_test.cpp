// Guesses from the text, and when they stop.

#include "infer/prompt_lookup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moe::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<int32_t> draft(const std::vector<int32_t>& ids, int64_t most) { return look_up_draft(ids, most); }

TEST(PromptLookup, GivesWhatFollowedTheLastTokensBefore) {
  EXPECT_THAT(draft({1, 2, 3, 4, 5, 1, 2}, 3), ElementsAre(3, 4, 5));
  EXPECT_THAT(draft({1, 2, 3, 4, 5, 1, 2}, 1), ElementsAre(3));
  EXPECT_THAT(draft({1, 2, 3, 4, 5, 1, 2}, 9), ElementsAre(3, 4, 5, 1, 2));
  EXPECT_THAT(draft({1, 2, 7, 1, 2, 8, 1, 2}, 1), ElementsAre(8)) << "the latest one";
  EXPECT_THAT(draft({9, 1, 2, 7, 1, 2, 8, 9, 1, 2}, 1), ElementsAre(7)) << "the longest one before the latest one";
  EXPECT_THAT(draft({5, 5, 5, 5}, 2), ElementsAre(5)) << "they may overlap";
}

TEST(PromptLookup, GivesNothingWhereNothingWasBefore) {
  EXPECT_THAT(draft({1, 2, 3, 4}, 3), IsEmpty());
  EXPECT_THAT(draft({2, 3, 1, 2}, 3), IsEmpty()) << "one token says too little";
  EXPECT_THAT(draft({1, 2, 3, 1, 2}, 0), IsEmpty());
  EXPECT_THAT(draft({}, 3), IsEmpty());
  EXPECT_THAT(draft({1}, 3), IsEmpty());
}

/// A row of passes: drafted ones, where they are wanted, give `right` tokens in `cost` seconds; others one in a second.
struct Passes {
  DraftGain gain;
  int64_t drafted = 0;

  Passes(int passes, int64_t right, double cost) {
    for (int i = 0; i < passes; ++i) {
      const bool drafts = gain.wants_draft();
      gain.add(drafts ? cost : 1, drafts ? right : 1, drafts);
      drafted += drafts;
    }
  }
};

TEST(DraftGain, KeepsWhatPaysAndStopsWhatDoesNot) {
  const Passes pays(200, 3, 1.5);
  EXPECT_EQ(pays.drafted, 200 - 8) << "the first passes show what a token takes without drafts";
  EXPECT_DOUBLE_EQ(pays.gain.saved_seconds(), 192 * 1.5);
  EXPECT_EQ(pays.gain.stops(), 0);

  const Passes costs(480, 1, 1.5);
  EXPECT_EQ(costs.drafted, 24) << "each try is of 8 passes, and pauses of 64, 128 and 256 passes follow";
  EXPECT_EQ(costs.gain.stops(), 3);
  EXPECT_DOUBLE_EQ(costs.gain.saved_seconds(), -12);
}

}  // namespace
}  // namespace moe::test
