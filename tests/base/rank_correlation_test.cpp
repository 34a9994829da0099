// Spearman's correlation, against values worked out by hand.

#include "base/rank_correlation.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moe {
namespace {

using testing::ElementsAre;

double correlation(const std::vector<double>& a, const std::vector<double>& b) { return rank_correlation(a, b); }

TEST(Ranks, OfEqualValuesAreTheMeanOfTheirPlaces) {
  EXPECT_THAT(ranks(std::vector<double>{3, -1, 3, 10, 3}), ElementsAre(3, 1, 3, 5, 3));
  EXPECT_THAT(ranks(std::vector<double>{2, 2}), ElementsAre(1.5, 1.5));
}

TEST(RankCorrelation, SeesTheOrderAlone) {
  EXPECT_DOUBLE_EQ(correlation({1, 2, 3, 4}, {1, 10, 100, 1000}), 1);
  EXPECT_DOUBLE_EQ(correlation({1, 2, 3, 4}, {0.5, 0.25, -3, -4}), -1);
  // Ranks 1 2 3 4 5 and 2 1 4 3 5: 1 - 6 * (1 + 1 + 1 + 1 + 0) / (5 * 24).
  EXPECT_DOUBLE_EQ(correlation({1, 2, 3, 4, 5}, {20, 10, 40, 30, 50}), 0.8);
  // Ranks 1.5 1.5 3 and 1 2 3, about their mean: (-0.5 -0.5 1) . (-1 0 1) / sqrt(1.5 * 2).
  EXPECT_DOUBLE_EQ(correlation({7, 7, 9}, {1, 2, 3}), 1.5 / std::sqrt(3.0));
}

TEST(RankCorrelation, OfEqualValuesIsNotANumber) {
  EXPECT_TRUE(std::isnan(correlation({1, 1, 1}, {1, 2, 3})));
  EXPECT_TRUE(std::isnan(correlation({1}, {2})));
  EXPECT_TRUE(std::isnan(correlation({}, {})));
}

}  // namespace
}  // namespace moe
