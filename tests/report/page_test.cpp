// Pages of `moe report`: what is embedded, what cannot break out of its place, and what is read of a run's log.

#include "report/page.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/curves.h"
#include "report/page_files.h"
#include "report/runs.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(Page, HasTheFilesOfTheSourceTreeByteForByte) {
  const fs::path folder = fs::path(MOE_SOURCE_DIR) / "src/report/page";
  EXPECT_EQ(kFrameHtml, read_file(folder / "frame.html"));
  EXPECT_EQ(kStyleSheet, read_file(folder / "style.css"));
  EXPECT_EQ(kCommonScript, read_file(folder / "common.js"));
  EXPECT_EQ(kHeatScript, read_file(folder / "heat.js"));
  EXPECT_EQ(kCurvesScript, read_file(folder / "curves.js"));
  EXPECT_EQ(kExpertsScript, read_file(folder / "experts.js"));
  EXPECT_EQ(kReportScript, read_file(folder / "report.js"));
  EXPECT_EQ(kTraceScript, read_file(folder / "trace.js"));
  const fs::path chart = "/usr/share/javascript/chart.js/chart.min.js";
  if (!kChartScript.empty() && fs::exists(chart)) {
    EXPECT_TRUE(kChartScript == read_file(chart));
  }
}

TEST(Page, TextOfARunCannotEndItsPlace) {
  const std::string text = "</script><script>alert(1)</script><!-- {{scripts}}";
  const std::string page = html_page(Page::trace, "<b>&{{data}}", {{"text", text}});
  EXPECT_THAT(page, HasSubstr("<title>&lt;b>&amp;{{data}}</title>"));
  EXPECT_THAT(page, Not(HasSubstr("alert(1)</script>")));
  const std::string begin = "id=\"data\">";
  const size_t at = page.find(begin) + begin.size();
  const Json data = parse_json(std::string_view(page).substr(at, page.find("</script>", at) - at), "data");
  EXPECT_EQ(data.at("text"), text) << "and is the same text for the script";
}

TEST(Page, WithoutChartJsThereIsOneSentence) {
  if (!kChartScript.empty()) {
    EXPECT_NO_THROW(check_page(Page::report));
  } else {
    EXPECT_THAT(error_of([] { check_page(Page::report); }), HasSubstr("apt-get install libjs-chart.js"));
  }
  EXPECT_NO_THROW(check_page(Page::trace)) << "which has no curves";
}

std::string step_line(int64_t step, double loss, const std::string& counts = "") {
  return fmt::format(
      R"({{"step":{},"loss":{},"gradient_norm":1.5,"learning_rate":0.25,"tokens":100,"tokens_per_second":50,"peak_bytes":{},"layers":[{{"layer":2,"max_over_mean_load":2.5{}}}]}})"
      "\n",
      step, loss, 1000 + step, counts.empty() ? "" : ",\"counts\":" + counts);
}

TEST(Curves, AreMeansOfEqualPartsWithWhatWasSpentUntilThen) {
  TemporaryFolder folder;
  std::string text = "{\"run\":{\"plan\":{\"step_flops\":7}}}\n";
  for (int64_t step = 1; step <= 10; ++step) text += step_line(step, static_cast<double>(step));
  write_file(folder / "log.jsonl", text + "{\"step\":11,\"lo");  // a run writes this line now
  const RunLog log = read_log(folder / "log.jsonl", {4}, 5);
  EXPECT_THAT(log.curves.at("step"), ElementsAre(2, 4, 6, 8, 10));
  EXPECT_THAT(log.curves.at("loss"), ElementsAre(1.5, 3.5, 5.5, 7.5, 9.5));
  EXPECT_THAT(log.curves.at("low"), ElementsAre(1, 3, 5, 7, 9));
  EXPECT_THAT(log.curves.at("high"), ElementsAre(2, 4, 6, 8, 10));
  EXPECT_THAT(log.curves.at("tokens"), ElementsAre(200, 400, 600, 800, 1000));
  EXPECT_THAT(log.curves.at("seconds"), ElementsAre(4, 8, 12, 16, 20));
  EXPECT_THAT(log.curves.at("flops"), ElementsAre(14, 28, 42, 56, 70));
  EXPECT_THAT(log.curves.at("worst_load"), ElementsAre(2.5, 2.5, 2.5, 2.5, 2.5));
  EXPECT_EQ(log.spent.at(4), (Json{{"tokens", 400.0}, {"seconds", 8.0}, {"flops", 28.0}}));
  EXPECT_EQ(log.steps, 10);
  EXPECT_EQ(log.tokens_per_second, 50);
  EXPECT_EQ(log.peak_bytes, 1010);
  EXPECT_TRUE(log.loads.is_null());
}

TEST(Curves, AStepThatDivergedIsAGap) {
  TemporaryFolder folder;
  write_file(folder / "log.jsonl",
             step_line(1, 3) + R"({"step":2,"loss":null,"gradient_norm":null,"tokens":1})" + "\n");
  const RunLog log = read_log(folder / "log.jsonl", {});
  EXPECT_THAT(log.curves.at("loss"), ElementsAre(3, nullptr));
  EXPECT_THAT(log.curves.at("flops"), ElementsAre(nullptr, nullptr)) << "a log without a plan";
}

TEST(Curves, LoadsAreMultiplesOfTheMeanOverTheStepsOfATime) {
  TemporaryFolder folder;
  write_file(folder / "log.jsonl", step_line(1, 3, "[4,0]") + step_line(2, 3) + step_line(3, 3, "[2,2]") +
                                       step_line(4, 3, "[0,6]") + step_line(5, 3, "[0,0]"));
  const RunLog log = read_log(folder / "log.jsonl", {}, 800, 2);
  EXPECT_THAT(log.loads.at("steps"), ElementsAre(3, 5));
  const Json layer = log.loads.at("layers").at(0);
  EXPECT_EQ(layer.at("layer"), 2);
  EXPECT_EQ(layer.at("loads"), Json::parse("[[1.5,0.5],[0.0,2.0]]"));
}

TEST(Curves, ADamagedLineIsNamed) {
  TemporaryFolder folder;
  write_file(folder / "log.jsonl", step_line(1, 3) + "{\"step\":2,\n" + step_line(3, 3));
  EXPECT_THAT(error_of([&] { read_log(folder / "log.jsonl", {}); }), HasSubstr("log.jsonl, line 2"));
}

TEST(Runs, AStudyStandsForItsRuns) {
  TemporaryFolder folder;
  for (const char* name : {"runs/b", "runs/a", "runs/empty"}) make_folder(folder / name);
  for (const char* name : {"runs/b", "runs/a"}) write_file(folder / name / "log.jsonl", step_line(1, 3));
  const auto runs = runs_of(folder.path());
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0].name, "a");
  EXPECT_EQ(runs[1].name, "b");
  EXPECT_EQ(runs_of(folder / "runs/a/").front().name, "a");
}

TEST(Runs, WhatIsNoRunIsRefused) {
  TemporaryFolder folder;
  write_file(folder / "file", "");
  make_folder(folder / "study/runs");
  EXPECT_THAT(error_of([&] { runs_of(folder / "missing"); }), HasSubstr("does not exist"));
  EXPECT_THAT(error_of([&] { runs_of(folder / "file"); }), HasSubstr("is a file; expected the folder of a run"));
  EXPECT_THAT(error_of([&] { runs_of(folder.path()); }), HasSubstr("is not the folder of a run"));
  EXPECT_THAT(error_of([&] { runs_of(folder / "study"); }), HasSubstr("no run with a log.jsonl yet"));
}

TEST(Runs, EqualNamesGetTheFoldersBeforeThem) {
  std::vector<ReportedRun> runs = {{.name = "run", .folder = "/a/x/run"},
                                   {.name = "run", .folder = "/b/x/run"},
                                   {.name = "other", .folder = "/c/other"}};
  tell_apart(runs);
  EXPECT_EQ(runs[0].name, "a/x/run");
  EXPECT_EQ(runs[1].name, "b/x/run");
  EXPECT_EQ(runs[2].name, "other");
}

TEST(Runs, AnEvaluationOfAnotherKindIsRefused) {
  TemporaryFolder folder;
  write_file(folder / "log.jsonl", step_line(1, 3));
  write_file(folder / "eval.json", "{\"something\": 1}");
  EXPECT_THAT(error_of([&] { report_data(runs_of(folder.path())); }),
              HasSubstr("not a file of `moe eval loss --json`"));
}

TEST(Runs, ATableOfExpertsIsShownAsItIsAndAnotherFileRefused) {
  TemporaryFolder folder;
  write_file(folder / "log.jsonl", step_line(1, 3));
  write_file(folder / "causal.json", R"({"domains": {}, "layers": [{"layer": 1, "experts": []}]})");
  EXPECT_EQ(report_data(runs_of(folder.path())).at("runs")[0].at("causal").at("layers")[0].at("layer"), 1);
  write_file(folder / "causal.json", R"({"layers": []})");
  EXPECT_THAT(error_of([&] { report_data(runs_of(folder.path())); }),
              HasSubstr("causal.json is not a file of `moe eval causal --json`"));
}

TEST(Runs, WhatAFolderDoesNotHaveIsEmpty) {
  TemporaryFolder folder;
  write_file(folder / "log.jsonl", step_line(1, 3));
  const Json run = report_data(runs_of(folder.path())).at("runs").at(0);
  for (const char* list : {"evaluations", "samples", "warnings", "changes"})
    EXPECT_EQ(run.at(list), Json::array()) << list;
  for (const char* part : {"about", "status", "evaluation", "causal", "loads"})
    EXPECT_TRUE(run.at(part).is_null()) << part;
}

}  // namespace
}  // namespace moe
