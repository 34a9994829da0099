// What `moe study show --lengths` says of a study that was trained for several lengths.

#include "study/lengths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "study/plots.h"
#include "tests/study/studies.h"

namespace moe::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const char* const kGridSection = R"([study]
title = "Two systems"
seeds = [1, 2]
systems = ["few: model.num_experts_per_tok=1", "many: model.n_routed_experts=16"]
grid = ["lr: optimizer.learning_rate=1e-3,2e-3"]
)";

class Lengths : public testing::Test {
 protected:
  TemporaryFolder folder;
  Study study = study_of(folder, kGridSection);

  StudyLength length(double seconds, const std::vector<std::tuple<std::string, int64_t, double>>& losses) const {
    StudyLength made{.study = study, .results = {}};
    for (const auto& [system, seed, loss] : losses) {
      made.results.push_back(result_of(system, seed, loss));
      made.results.back().seconds = seconds;
    }
    return made;
  }
};

TEST_F(Lengths, TakeTheValuesOfTheGridWithTheLowestMeanOfTheSeeds) {
  // Of few, lr1e-3 has the lowest single loss, and lr2e-3 the lowest mean.
  const auto curves = length_curves({length(60, {{"few-lr1e-3", 1, 2.0},
                                                 {"few-lr1e-3", 2, 2.6},
                                                 {"few-lr2e-3", 1, 2.1},
                                                 {"few-lr2e-3", 2, 2.2},
                                                 {"many-lr1e-3", 1, 2.4}}),
                                     length(30, {{"many-lr1e-3", 1, 3.5}, {"few-lr1e-3", 1, 3.0}})});
  ASSERT_EQ(curves.size(), 2u);
  EXPECT_EQ(curves[0].name, "few");
  ASSERT_EQ(curves[0].points.size(), 2u);
  EXPECT_EQ(curves[0].points[0].seconds, 30);
  EXPECT_EQ(curves[0].points[0].system, "few-lr1e-3");
  EXPECT_EQ(curves[0].points[1].seconds, 60);
  EXPECT_EQ(curves[0].points[1].system, "few-lr2e-3");
  EXPECT_THAT(curves[0].points[1].losses, ElementsAre(2.1, 2.2));
  EXPECT_DOUBLE_EQ(curves[0].points[1].loss, 2.15);
  EXPECT_EQ(curves[1].name, "many");
  EXPECT_EQ(curves[1].points.size(), 2u);
}

TEST_F(Lengths, LeaveOutWhatDiverged) {
  StudyLength one = length(30, {{"few-lr1e-3", 1, 2.0}, {"few-lr2e-3", 1, 3.0}});
  one.results[0].diverged = 7;
  const auto curves = length_curves({one});
  ASSERT_EQ(curves.size(), 1u);
  EXPECT_EQ(curves[0].points.at(0).system, "few-lr2e-3");
}

TEST_F(Lengths, AreATableBySecondsAndAPlot) {
  const auto curves =
      length_curves({length(60, {{"few-lr1e-3", 1, 2.0}, {"few-lr1e-3", 2, 2.5}, {"many-lr1e-3", 1, 2.4}}),
                     length(30, {{"many-lr2e-3", 1, 3.5}})});
  EXPECT_THAT(length_table(curves), HasSubstr("| 30.0 | many | many-lr2e-3 | 3.5000 | 3.5000 |\n"
                                              "| 60.0 | few | few-lr1e-3 | 2.2500 | 2.0000, 2.5000 |\n"
                                              "| 60.0 | many | many-lr1e-3 | 2.4000 | 2.4000 |\n"));
  EXPECT_EQ(write_length_plot("a study", curves, folder / "plots"), "lengths.svg");
  const std::string svg = read_file(folder / "plots" / "lengths.svg");
  EXPECT_THAT(svg, HasSubstr(">few</text>"));
  EXPECT_THAT(svg, HasSubstr(">many</text>"));
  EXPECT_TRUE(fs::exists(folder / "plots" / "lengths.pdf"));
}

}  // namespace
}  // namespace moe::test
