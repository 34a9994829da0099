// How long a run is: steps, epochs or hours.

#include "train/length.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"
#include "train/read_run_config.h"

namespace moe {
namespace {

using testing::HasSubstr;

RunConfig read(const std::string& length, const std::vector<std::string>& set = {}) {
  Settings settings = Settings::parse(R"([data]
train = "somewhere"
sequence_length = 32
rows_per_step = 8
[model]
vocab_size = 400
hidden_size = 24
num_hidden_layers = 2
num_attention_heads = 2
n_routed_experts = 8
num_experts_per_tok = 1
moe_intermediate_size = 8
[train]
)" + length,
                                      "run.toml");
  for (const std::string& assignment : set) settings.set(assignment);
  return read_run_config(
      settings, [](const std::string&) { return int64_t{400}; },
      [](const DataConfig& data, uint64_t) { return data.train == "somewhere" ? int64_t{100} : int64_t{1}; });
}

std::string refusal(const std::string& length, const std::vector<std::string>& set = {}) {
  return test::error_of<UsageError>([&] { read(length, set); });
}

TEST(Length, EpochsAreStepsRoundedUp) {
  EXPECT_EQ(read("epochs = 2\n").schedule.steps, 25);
  EXPECT_EQ(read("epochs = 1\n").schedule.steps, 13);
  EXPECT_EQ(read("epochs = 0.01\n").schedule.steps, 1);
  const RunConfig run = read("epochs = 8\n", {"model.method=stable_moe"});
  EXPECT_EQ(run.schedule.warmup_steps, 5) << "a twentieth of 100 steps";
  EXPECT_EQ(run.step.second_stage, 10);
}

TEST(Length, IsKeptAsStepsInTheResolvedSettings) {
  const RunConfig run = read("epochs = 2\n");
  EXPECT_THAT(run.resolved, HasSubstr("steps = 25\n"));
  Settings settings = Settings::parse(run.resolved, "resolved");
  const RunConfig again = read_run_config(
      settings, [](const std::string&) { return int64_t{400}; },
      [](const DataConfig&, uint64_t) -> int64_t { throw Error("opened"); });
  EXPECT_EQ(again.schedule.steps, 25);
  EXPECT_EQ(again.resolved, run.resolved);
}

TEST(Length, IsGivenExactlyOnce) {
  EXPECT_THAT(refusal(""), HasSubstr("train.steps is missing, expected an integer of 1 or more (or give train.epochs"));
  EXPECT_THAT(refusal("steps = 3\nepochs = 2\n"), HasSubstr("train.epochs is given and so is train.steps"));
  EXPECT_THAT(refusal("epochs = 3\nhours = 2\n"), HasSubstr("train.hours is given and so is train.epochs"));
  EXPECT_THAT(refusal("epochs = 0\n"), HasSubstr("train.steps is missing"));
  EXPECT_EQ(read("epochs = 1e6\n", {"data.rows_per_step=1"}).schedule.steps, 100000000);
}

TEST(Length, OfTheCommandLineTakesThePlaceOfTheFiles) {
  EXPECT_EQ(read("steps = 3\n", {"train.epochs=2"}).schedule.steps, 25);
  EXPECT_EQ(read("hours = 3\n", {"train.steps=7"}).schedule.steps, 7);
  EXPECT_EQ(read("hours = 3\n", {"train.steps=7"}).schedule.hours, 0);
  EXPECT_THAT(refusal("steps = 3\n", {"train.epochs=2", "train.hours=1"}), HasSubstr("train.hours is given and so is"));
}

TEST(Length, OfHoursIsOpenUntilARateIsMeasured) {
  const RunConfig run = read("hours = 0.5\n");
  EXPECT_EQ(run.schedule.hours, 0.5);
  EXPECT_EQ(steps_within(3600 * run.schedule.hours, 0.25), 7200);
  EXPECT_EQ(steps_within(1, 2), 1);
  EXPECT_THAT(test::error_of([] { steps_within(3600 * 1e6, 0.001); }),
              testing::HasSubstr("train.hours is 1000000, which at 0.001 s a step is 3.6e+12 steps"));
}

}  // namespace
}  // namespace moe
