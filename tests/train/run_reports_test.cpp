// What a run leaves for people and programs that watch it: the log's first line, status.json, event files, run.on_end,
// and warnings that end it.

#include "train/run_reports.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/interrupt.h"
#include "tests/support/tiny_run.h"
#include "train/start_text.h"

namespace moe {
namespace {

using test::error_of;
using test::said;
using test::TinyRun;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::vector<Json> lines_of(const fs::path& path) {
  std::vector<Json> lines;
  std::istringstream text(read_file(path));
  for (std::string line; std::getline(text, line);) lines.push_back(parse_json(line, path.string()));
  return lines;
}

Json status_of(const fs::path& run) { return parse_json(read_file(run / "status.json"), "status.json"); }

std::vector<fs::path> event_files(const fs::path& run) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(run)) {
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) files.push_back(entry.path());
  }
  return files;
}

TEST(RunReports, TheLogBeginsWithALineAboutTheRun) {
  TinyRun tiny;
  tiny.train("run", {"data.valid=" + (tiny / "valid").string()}, {.program = "moe 1.2.3", .device = "a processor"});
  const Json first = lines_of(tiny / "run/log.jsonl").front().at("run");
  EXPECT_EQ(first.at("program"), "moe 1.2.3");
  EXPECT_EQ(first.at("device"), "a processor");
  EXPECT_EQ(first.at("seed"), 1);
  EXPECT_EQ(first.at("first_step"), 1);
  EXPECT_EQ(first.at("data").at("fingerprint").get<std::string>().size(), 16u);
  EXPECT_NE(first.at("data").at("fingerprint"), first.at("valid").at("fingerprint"));
  EXPECT_GT(first.at("parameters"), first.at("activated_parameters"));
  EXPECT_THAT(first.at("started").get<std::string>(), testing::MatchesRegex("20..-..-..T..:..:..Z"));
  EXPECT_FALSE(first.at("host").get<std::string>().empty());
}

TEST(RunReports, AResumedRunAddsALineOfItsOwn) {
  TinyRun tiny;
  tiny.train("run", {"train.steps=4"});
  tiny.resume("run", {"train.steps=8"}, {"train.steps"});
  const std::vector<Json> lines = lines_of(tiny / "run/log.jsonl");
  ASSERT_EQ(lines.size(), 10u);
  EXPECT_EQ(lines[0].at("run").at("first_step"), 1);
  EXPECT_EQ(lines[5].at("run").at("first_step"), 5);
  EXPECT_EQ(lines[6].at("step"), 5);
}

TEST(RunReports, AStepSaysWhenItWasHowFarItGotAndHowMuchMemoryItTook) {
  TinyRun tiny;
  tiny.train("run");
  const std::vector<Json> lines = lines_of(tiny / "run/log.jsonl");
  double epoch = 0, time = 0;
  for (size_t i = 1; i < lines.size(); ++i) {
    EXPECT_GT(lines[i].at("epoch"), epoch);
    EXPECT_GE(lines[i].at("time"), time);
    EXPECT_GT(lines[i].at("peak_bytes"), 0);
    epoch = lines[i].at("epoch");
    time = lines[i].at("time");
  }
  EXPECT_NEAR(lines[1].at("epoch").get<double>() * 12, epoch, 1e-9) << "every step reads as many rows";
}

TEST(RunReports, TokensOfEveryExpertAreLoggedAsOftenAsAsked) {
  TinyRun tiny;
  const auto steps_with_counts = [&](const char* every) {
    tiny.train("run", {every, "train.steps=9", "checkpoint.every=0"});
    std::vector<int64_t> steps;
    for (const Json& line : tiny.log("run")) {
      const Json& layer = line.at("layers").at(0);
      if (!layer.contains("counts")) continue;
      steps.push_back(line.at("step"));
      int64_t sum = 0;
      for (const Json& count : layer.at("counts")) sum += count.get<int64_t>();
      EXPECT_EQ(layer.at("counts").size(), 4u);
      EXPECT_EQ(sum, 2 * line.at("tokens").get<int64_t>()) << "two experts a token";
    }
    fs::remove_all(tiny / "run");
    return steps;
  };
  EXPECT_EQ(steps_with_counts("log.counts_every=4"), (std::vector<int64_t>{4, 8}));
  EXPECT_EQ(steps_with_counts("log.counts_every=0"), std::vector<int64_t>{});
}

TEST(RunReports, TheStatusSaysHowARunEnded) {
  TinyRun tiny;
  tiny.train("done");
  EXPECT_EQ(status_of(tiny / "done").at("state"), "done");
  EXPECT_EQ(status_of(tiny / "done").at("step"), 12);
  EXPECT_EQ(status_of(tiny / "done").at("steps"), 12);
  EXPECT_THROW(tiny.train("diverged", {"optimizer.learning_rate=1e6", "optimizer.clip=0", "train.steps=400"}),
               Diverged);
  const Json status = status_of(tiny / "diverged");
  EXPECT_EQ(status.at("state"), "diverged");
  EXPECT_THAT(status.at("why").get<std::string>(), HasSubstr("training has diverged"));
}

TEST(RunReports, TheStepThatDivergedIsInTheLog) {
  TinyRun tiny;
  int64_t at = 0;
  try {
    tiny.train("run", {"optimizer.learning_rate=1e6", "optimizer.clip=0", "train.steps=400"});
  } catch (const Diverged& error) {
    at = error.step;
  }
  const Json last = lines_of(tiny / "run/log.jsonl").back();
  EXPECT_GT(at, 0);
  EXPECT_EQ(last.at("step"), at);
  EXPECT_EQ(last.at("diverged"), true);
}

TEST(RunReports, ARateOf10WarnsWithinFiveSteps) {
  TinyRun tiny;
  const std::string text = said([&] { tiny.train("run", {"optimizer.learning_rate=10", "train.steps=5"}); });
  EXPECT_THAT(text, HasSubstr("warning: step "));
  EXPECT_THAT(text, HasSubstr("of a guess that gives every token the same probability; lower optimizer.learning_rate"));
  EXPECT_THAT(said([&] { tiny.train("healthy"); }), Not(HasSubstr("warning")));
}

TEST(RunReports, AWarningEndsTheRunIfAskedAndKeepsItsCheckpoint) {
  TinyRun tiny;
  const std::vector<std::string> set{"optimizer.learning_rate=10", "health.stop_on=[\"spike\",\"uniform\"]"};
  const std::string error = error_of([&] { tiny.train("run", set); });
  EXPECT_THAT(error, AllOf(HasSubstr("by health.stop_on = uniform: step "), HasSubstr("the checkpoint is ")));
  const Json status = status_of(tiny / "run");
  EXPECT_EQ(status.at("state"), "failed");
  EXPECT_THAT(status.at("last_warning").get<std::string>(), HasSubstr("of a guess that gives every token"));
  EXPECT_TRUE(fs::exists(tiny / "run/latest/model.safetensors"));
}

TEST(RunReports, AKindThatDoesNotExistIsRefused) {
  TinyRun tiny;
  EXPECT_THAT(error_of([&] { tiny.config("run", {"health.stop_on=[\"boredom\"]"}); }),
              AllOf(HasSubstr("health.stop_on"), HasSubstr("uniform, spike, gradient, dead, load or collapse")));
}

TEST(RunReports, ACommandRunsAtTheEndWhateverTheEnd) {
  TinyRun tiny;
  const fs::path out = tiny / "ends";
  const std::string command = "run.on_end=\"echo $MOE_STATE $MOE_STEP $MOE_RUN_DIR >>" + out.string() + "\"";
  tiny.train("done", {command});
  EXPECT_THROW(tiny.train("diverged", {command, "optimizer.learning_rate=1e6", "optimizer.clip=0", "train.steps=400"}),
               Diverged);
  std::istringstream lines(read_file(out));
  std::string first, second;
  std::getline(lines, first);
  std::getline(lines, second);
  EXPECT_EQ(first, "done 12 " + (tiny / "done").string());
  EXPECT_THAT(second, AllOf(HasSubstr("diverged "), HasSubstr((tiny / "diverged").string())));
}

TEST(RunReports, ACommandThatFailsIsAWarning) {
  TinyRun tiny;
  const std::string text = said([&] { EXPECT_EQ(tiny.train("run", {"run.on_end=\"exit 3\""}), 0); });
  EXPECT_THAT(text, HasSubstr("run.on_end: `exit 3` ended with status 3"));
}

TEST(RunReports, EventFilesAreWrittenUnlessTheyAreUnwanted) {
  TinyRun tiny;
  tiny.train("with");
  EXPECT_EQ(event_files(tiny / "with").size(), 1u);
  tiny.train("without", {"log.tensorboard=false"});
  EXPECT_TRUE(event_files(tiny / "without").empty());
}

TEST(RunReports, EventsOfAResumedRunReplaceThoseAfterItsCheckpoint) {
  TinyRun tiny;
  tiny.train("run", {"train.steps=4"});
  const auto restarts = [&] {  // a message session_log with the status START, which no number here contains
    int count = 0;
    for (const fs::path& file : event_files(tiny / "run")) {
      count += read_file(file).find(std::string("\x10\x05\x3a\x02\x08\x01")) != std::string::npos;  // of step 5
    }
    return count;
  };
  EXPECT_EQ(restarts(), 0);
  tiny.resume("run", {"train.steps=8"}, {"train.steps"});
  EXPECT_EQ(restarts(), 1);
}

TEST(RunReports, TheLogSaysWhatWasPlanned) {
  TinyRun tiny;
  tiny.train("run", {}, {.planned_bytes = 12345, .planned_step_seconds = 0.5});
  const Json plan = lines_of(tiny / "run/log.jsonl").front().at("run").at("plan");
  const RunConfig run = tiny.config("run");
  EXPECT_EQ(plan.at("memory_bytes"), 12345);
  EXPECT_EQ(plan.at("step_seconds"), 0.5);
  EXPECT_EQ(plan.at("step_flops"), step_flops(run, plan_training(run.model, run.step)));
  EXPECT_GT(status_of(tiny / "run").at("peak_host_bytes"), 1 << 20);
  tiny.train("unknown");
  EXPECT_FALSE(lines_of(tiny / "unknown/log.jsonl").front().at("run").at("plan").contains("memory_bytes"));
}

TEST(RunReports, SamplesAreKeptAsTheyWerePrinted) {
  TinyRun tiny;
  testing::internal::CaptureStdout();
  tiny.train("run", {"sample.prompts=[\"the old\",\"\"]", "sample.every=5"});
  const std::string printed = testing::internal::GetCapturedStdout();
  const std::vector<Json> lines = lines_of(tiny / "run/samples.jsonl");
  std::vector<int64_t> steps;
  for (const Json& line : lines) {
    steps.push_back(line.at("step"));
    ASSERT_EQ(line.at("samples").size(), 2u);
    for (const Json& sample : line.at("samples")) {
      EXPECT_THAT(printed, HasSubstr("[" + sample.at("prompt").get<std::string>() + "]" +
                                     sample.at("text").get<std::string>() + "\n"));
    }
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{0, 5, 10, 12}));
  EXPECT_FALSE(fs::exists(tiny / "run/warnings.jsonl"));
  tiny.train("silent");
  EXPECT_FALSE(fs::exists(tiny / "silent/samples.jsonl"));
}

TEST(RunReports, AResumedRunDropsSamplesAndWarningsOfLaterSteps) {
  TinyRun tiny;
  const std::vector<std::string> set{"sample.prompts=[\"the\"]", "sample.every=2", "train.steps=8",
                                     "checkpoint.every=4"};
  testing::internal::CaptureStdout();
  tiny.train("straight", set);
  tiny.train("run", set);
  fs::remove_all(tiny / "run/step-8");
  std::ofstream(tiny / "run/samples.jsonl", std::ios::app) << "{\"step\": 7, \"sam";  // as after a crash
  std::ofstream(tiny / "run/warnings.jsonl") << "{\"step\":3,\"text\":\"a\"}\n{\"step\":6,\"text\":\"b\"}\n";
  tiny.resume("run", set);
  testing::internal::GetCapturedStdout();
  EXPECT_EQ(read_file(tiny / "run/samples.jsonl"), read_file(tiny / "straight/samples.jsonl"));
  const std::vector<Json> warnings = lines_of(tiny / "run/warnings.jsonl");
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0].at("step"), 3);
}

TEST(RunReports, WarningsAreKept) {
  TinyRun tiny;
  const std::string text = said([&] { tiny.train("run", {"optimizer.learning_rate=10", "train.steps=5"}); });
  const std::vector<Json> lines = lines_of(tiny / "run/warnings.jsonl");
  ASSERT_FALSE(lines.empty());
  EXPECT_EQ(lines[0].at("kind"), "uniform");
  for (const Json& line : lines) {
    EXPECT_THAT(text, HasSubstr("warning: " + line.at("text").get<std::string>()));
    EXPECT_THAT(line.at("step"), testing::AllOf(testing::Ge(1), testing::Le(5)));
  }
}

}  // namespace
}  // namespace moe
