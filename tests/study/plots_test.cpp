// Which plots a study's results give, and what they hold. That they are well-formed XML is tested in tests/e2e/.

#include "study/plots.h"

#include <set>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/svg.h"
#include "tests/study/studies.h"

namespace moe::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class Plots : public testing::Test {
 protected:
  TemporaryFolder folder;
  Study study;
  std::vector<JobResult> results;

  Plots() {
    study.title = "a < b & c";
    study.systems = {"few", "many"};
    for (const int64_t seed : {1, 2}) {
      for (const char* system : {"few", "many"})
        results.push_back(result_of(system, seed, 2 + 0.1 * static_cast<double>(seed)));
    }
  }
  std::vector<std::string> write() { return write_plots(study, summarize(study, results), folder.path()); }
  std::string read(const std::string& name) { return read_file(folder / name); }
  static int64_t count(const std::string& text, const std::string& what) {
    int64_t found = 0;
    for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
    return found;
  }
};

TEST_F(Plots, AreBarsAndCurvesThatNameEverySystem) {
  EXPECT_EQ(write(), (std::vector<std::string>{"systems.svg", "curves.svg"}));
  EXPECT_EQ(folder.files(), (std::vector<std::string>{"curves.pdf", "curves.svg", "systems.pdf", "systems.svg"}));
  for (const char* name : {"systems.svg", "curves.svg"}) {
    EXPECT_THAT(read(name), HasSubstr(">a &lt; b &amp; c</text>"));
    for (const char* system : {">few</text>", ">many</text>"}) EXPECT_EQ(count(read(name), system), 1) << name;
  }
  EXPECT_EQ(count(read("systems.svg"), ">2.1500 ± 0.6353</text>"), 2) << "the mean of 2.1 and 2.2";
  EXPECT_EQ(count(read("curves.svg"), "<polyline"), 2 * 2) << "in the plot and beside its name";
  EXPECT_EQ(count(read("curves.svg"), "<polygon"), 2) << "a band over the seeds";
}

TEST_F(Plots, OfSomeSystemsNameThoseAlone) {
  study.bars = {{"half", {"many"}}};
  EXPECT_EQ(write(), (std::vector<std::string>{"systems.svg", "half.svg", "curves.svg"}));
  EXPECT_THAT(read("half.svg"), HasSubstr(">many</text>"));
  EXPECT_THAT(read("half.svg"), Not(HasSubstr(">few</text>")));
  results.resize(1);  // many has no result
  EXPECT_EQ(write(), (std::vector<std::string>{"systems.svg", "curves.svg"}));
}

TEST_F(Plots, OfSwitchesAreDrawnWhereTheyWereMeasured) {
  for (JobResult& result : results) {
    if (result.system == "few") continue;
    result.switches = {{"mask_sixteenths", 0, 2},
                       {"mask_sixteenths", 4, 3},
                       {"experts_per_token", 1, 3},
                       {"experts_per_token", 2, 2},
                       {"drop_shared", 1, 4}};
  }
  EXPECT_EQ(write(), (std::vector<std::string>{"systems.svg", "curves.svg", "figure4.svg", "figure5.svg"}));
  EXPECT_THAT(read("figure4.svg"), HasSubstr(">many</text>"));
  EXPECT_THAT(read("figure4.svg"), Not(HasSubstr(">few</text>")));
}

TEST_F(Plots, ASwitchThatOneSeedLacksIsLeftOut) {
  for (JobResult& result : results) {
    result.switches = {{"mask_sixteenths", 0, 2}, {"mask_sixteenths", 2, 2.5}, {"mask_sixteenths", 4, 3}};
  }
  results[2].switches.erase(results[2].switches.begin());  // few, seed 2
  results[3].switches.clear();                             // many, seed 2
  write();
  EXPECT_THAT(read("figure4.svg"), HasSubstr(">few</text>"));
  EXPECT_THAT(read("figure4.svg"), Not(HasSubstr(">many</text>")));
  EXPECT_EQ(count(read("figure4.svg"), "<polyline"), 2 * 1);
}

TEST_F(Plots, OfEqualLossesHaveFiniteCoordinates) {
  for (JobResult& result : results) {
    result.loss = 2;
    result.curve = {{10, 2, 10}, {20, 2, 20}};
  }
  write();
  for (const char* name : {"systems.svg", "curves.svg"}) {
    EXPECT_THAT(read(name), Not(HasSubstr("nan")));
    EXPECT_THAT(read(name), Not(HasSubstr("inf")));
  }
}

TEST_F(Plots, OfDifferencesToABaselineHaveZero) {
  study.baseline = "few";
  for (JobResult& result : results) {
    if (result.system == "many") result.bits_per_byte -= 0.01 * static_cast<double>(result.seed);
  }
  EXPECT_EQ(write(), (std::vector<std::string>{"systems.svg", "differences.svg", "curves.svg"}));
  EXPECT_THAT(read("differences.svg"), HasSubstr(">-0.0150 ± 0.0635</text>")) << "t(1) * 0.005";
  EXPECT_THAT(read("differences.svg"), HasSubstr(">0</text>"));
  EXPECT_THAT(read("differences.svg"), Not(HasSubstr(">few</text>")));
}

TEST_F(Plots, ASystemLooksTheSameInEveryPlot) {
  study.bars = {{"half", {"many"}}};
  for (JobResult& result : results) result.switches = {{"mask_sixteenths", 0, 2}, {"mask_sixteenths", 4, 3}};
  write();
  const std::string mark = svg::mark_at(0, 0, svg::style_of(1));
  const std::string shape = mark.substr(0, mark.find(" transform")), colour = mark.substr(mark.find(" fill"));
  for (const char* name : {"systems.svg", "half.svg", "curves.svg", "figure4.svg"}) {
    EXPECT_THAT(read(name), HasSubstr(shape)) << name;
    EXPECT_THAT(read(name), HasSubstr(colour)) << name;
  }
}

TEST_F(Plots, AreSortedByTheirLosses) {
  for (JobResult& result : results) {
    if (result.system == "few") continue;
    result.loss -= 1;
    result.curve.back().loss -= 1;
  }
  write();
  for (const char* name : {"systems.svg", "curves.svg"}) {
    EXPECT_LT(read(name).find(">many</text>"), read(name).find(">few</text>")) << name;
  }
}

TEST(PlotStyles, NoTwoAreAlike) {
  std::set<std::tuple<std::string, std::string, size_t>> seen;
  for (size_t i = 0; i < 120; ++i) {
    const svg::Style style = svg::style_of(i);
    EXPECT_TRUE(seen.insert({style.colour, style.dash, style.mark}).second) << i;
  }
  for (size_t i = 0; i < 120; ++i) {
    for (size_t j = i > 23 ? i - 23 : 0; j < i; ++j) {
      const svg::Style a = svg::style_of(i), b = svg::style_of(j);
      const int alike = (a.colour == std::string(b.colour)) + (a.dash == std::string(b.dash)) + (a.mark == b.mark);
      EXPECT_LE(alike, 1) << i << " and " << j;
    }
  }
}

TEST(PlotAxes, AreLogarithmicWhereOneLineSqueezesTheOthers) {
  const auto lines = [](double end) {
    return std::vector<svg::Line>{{"a", {{1, 3}, {10, 2}}}, {"b", {{1, 3}, {11, 2}}}, {"c", {{2, 3}, {end, 2}}}};
  };
  EXPECT_THAT(svg::line_plot("t", "cost", "loss", lines(30)), HasSubstr(">cost</text>"));
  EXPECT_THAT(svg::line_plot("t", "cost", "loss", lines(80)), HasSubstr(">cost (logarithmic)</text>"));
  EXPECT_THAT(svg::line_plot("t", "cost", "loss", {{"a", {{0, 3}, {10, 2}}}, {"c", {{0, 3}, {90, 2}}}}),
              HasSubstr(">cost</text>"))
      << "0 has no logarithm";
  const svg::Axis axis = svg::axis_of(1, 100, 0, 600, true);
  EXPECT_NEAR(axis.at(10), 300, 1e-9);
}

TEST_F(Plots, OfNothingAreNone) {
  results.clear();
  EXPECT_EQ(write(), std::vector<std::string>{});
}

}  // namespace
}  // namespace moe::test
