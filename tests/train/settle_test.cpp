// What "auto" stands for: the microbatch that fits and is predicted to be fastest, settled once and kept.

#include "train/settle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/tiny_run.h"
#include "train/ranks.h"
#include "train/read_run_config.h"

namespace moe {
namespace {

using testing::HasSubstr;

RunConfig read(const std::vector<std::string>& set) {
  Settings settings = Settings::parse(R"(
[data]
sequence_length = 32
rows_per_step = 24
[model]
vocab_size = 290
hidden_size = 16
num_hidden_layers = 2
num_attention_heads = 2
n_routed_experts = 4
num_experts_per_tok = 2
moe_intermediate_size = 8
[train]
steps = 12
)",
                                      "auto.toml");
  for (const std::string& assignment : set) settings.set(assignment);
  return read_run_config(settings, [](const std::string&) { return int64_t{290}; });
}

RunConfig shipped(const std::string& name, const RunStart& start = {}) {
  Settings settings = Settings::load(fs::path(MOE_SOURCE_DIR) / "configs" / name);
  const auto rows = [](const DataConfig&, uint64_t) { return int64_t{1000}; };
  return read_run_config(
      settings, [](const std::string&) { return int64_t{4096}; }, rows, start);
}

RunConfig with(RunConfig run, int64_t rows, bool recompute) {
  set_microbatch(run, rows, recompute);
  return run;
}

Place gpu(int64_t gib) { return {.device = {.available_bytes = gib << 30}}; }
Place cpu(int64_t bytes) { return {.device = {.available_bytes = bytes, .is_host = true}, .host_bytes = bytes}; }

int64_t needed(const RunConfig& run, const Place& place) { return plan_run(run, {}, place).device_total(); }

TEST(Settle, IsTheFastestPairOfAllThatFit) {
  const RunConfig run = read({});
  ASSERT_TRUE(run.chooses_microbatch());
  const int64_t least = needed(with(run, 1, true), cpu(1)), most = needed(with(run, 24, false), cpu(1));
  int64_t rows_before = 0;
  for (int64_t room = least; room <= most + 4096; room += (most - least) / 40 + 1) {
    const Microbatch chosen = choose_microbatch(run, {}, cpu(room));
    const RunConfig settled = with(run, chosen.rows, chosen.recompute);
    EXPECT_LE(needed(settled, cpu(room)), room);
    const auto time = [&](const RunConfig& tried) {
      return predicted_time(plan_training(tried.model, tried.step), tried.step, false);
    };
    for (const int64_t rows : {1, 2, 3, 4, 6, 8, 12, 24}) {
      for (const bool recompute : {false, true}) {
        const RunConfig other = with(run, rows, recompute);
        if (needed(other, cpu(room)) > room) continue;
        EXPECT_LE(time(settled), 1.02 * time(other)) << room << ": " << rows << " " << recompute;
      }
    }
    rows_before = chosen.rows;
  }
  EXPECT_GT(rows_before, 1);
  const Microbatch nothing = choose_microbatch(run, {}, cpu(1));
  EXPECT_EQ(nothing.rows, 1);
  EXPECT_TRUE(nothing.recompute);
}

/// The first stage of a pipeline keeps the most microbatches, the last one has the head.
TEST(Settle, FitsEveryStage) {
  for (const char* vocabulary : {"model.vocab_size=290", "model.vocab_size=29000"}) {
    SCOPED_TRACE(vocabulary);
    RunConfig run = read({vocabulary, "model.num_hidden_layers=6", "model.hidden_size=64"});
    divide_among(run, {.ranks = 3, .stages = 3});
    const auto needed_by = [&](RunConfig tried, int rank) {
      tried.step.rank = rank;
      return needed(tried, cpu(1));
    };
    const RunConfig whole = with(run, 4, false);
    const int fullest = fullest_rank(whole, {}, cpu(1));
    EXPECT_EQ(fullest, std::string(vocabulary).ends_with("000") ? 2 : 0);
    for (const int rank : {0, 1, 2}) EXPECT_LE(needed_by(whole, rank), needed_by(whole, fullest));
    const int64_t room = (needed_by(with(run, 1, true), fullest) + needed_by(whole, fullest)) / 2;
    const Microbatch chosen = choose_microbatch(run, {}, cpu(room));
    for (const int rank : {0, 1, 2}) EXPECT_LE(needed_by(with(run, chosen.rows, chosen.recompute), rank), room);
  }
}

TEST(Settle, RecomputeCostsTimeAndIsTakenWhereItMakesRoom) {
  const RunConfig run = read({"data.microbatch_rows=24"});
  const int64_t plain = needed(with(run, 24, false), cpu(1)), again = needed(with(run, 24, true), cpu(1));
  ASSERT_LT(again, plain);
  EXPECT_FALSE(choose_microbatch(run, {}, cpu(plain)).recompute);
  EXPECT_TRUE(choose_microbatch(run, {}, cpu((plain + again) / 2)).recompute);
  const Microbatch fixed = choose_microbatch(read({"train.recompute=false"}), {}, cpu((plain + again) / 2));
  EXPECT_FALSE(fixed.recompute) << "what the run file gives is not chosen";
  EXPECT_LT(fixed.rows, 24);
}

// The rows that `moe bench step` of docs/performance.md is fast with, on cards of 80 and of 141 GB.
TEST(Settle, DeepSeekMoE2BTrainsWith64KTokensInAMicrobatch) {
  for (const int64_t gib : {78, 139}) {
    const Microbatch chosen = choose_microbatch(shipped("deepseekmoe-2b.toml"), {}, gpu(gib));
    EXPECT_EQ(chosen.rows, 32) << gib;
    EXPECT_FALSE(chosen.recompute) << gib;
  }
  const Microbatch small = choose_microbatch(shipped("deepseekmoe-2b.toml"), {}, gpu(45));
  EXPECT_EQ(small.rows, 32);
  EXPECT_TRUE(small.recompute) << "a third more products cost less than microbatches of 8 rows";
}

TEST(Settle, OnTheCpuTakesNoMoreMemoryThanAllRowsAtOnce) {
  for (const char* name : {"demo.toml", "laptop-night.toml", "moe-100m.toml"}) {
    const RunConfig run = shipped(name);
    const Place place = cpu(int64_t{64} << 30);
    const Microbatch chosen = choose_microbatch(run, {}, place);
    EXPECT_FALSE(chosen.recompute) << name;
    EXPECT_EQ(chosen.rows * run.data.sequence_length, 2048) << name;
    EXPECT_LE(needed(with(run, chosen.rows, false), place), needed(with(run, run.data.rows_per_step, false), place))
        << name;
  }
}

TEST(Settle, EveryShippedConfigurationLeavesTheMicrobatchToTheProgram) {
  RunConfig model = shipped("deepseekmoe-16b.toml");
  model.from = "model";  // stands for the models that files begin with, which are not here
  for (const auto& entry : fs::directory_iterator(fs::path(MOE_SOURCE_DIR) / "configs")) {
    if (entry.path().extension() != ".toml") continue;
    const RunConfig run = shipped(entry.path().filename(), {.like = &model});
    EXPECT_EQ(run.data.microbatch_rows, 0) << entry.path();
    EXPECT_TRUE(run.step.choose_recompute) << entry.path();
  }
}

TEST(Settle, EvaluationFollowsUnlessItsRowsAreGiven) {
  RunConfig run = read({});
  EXPECT_THAT(run.resolved, HasSubstr("batch_rows = \"auto\""));
  settle(run, {6, true});
  EXPECT_EQ(run.data.microbatch_rows, 6);
  EXPECT_EQ(run.step.microbatches, 4);
  EXPECT_EQ(run.step.microbatch_tokens, 6 * 32);
  EXPECT_EQ(run.evaluation.batch_rows, 6);
  EXPECT_FALSE(run.chooses_microbatch());
  EXPECT_EQ(run.resolved, read({"data.microbatch_rows=6", "train.recompute=true"}).resolved);
  run = read({"eval.batch_rows=5"});
  settle(run, {6, true});
  EXPECT_EQ(run.evaluation.batch_rows, 5);
}

TEST(Settle, IsRefusedWhereTheLossesDependOnTheMicrobatch) {
  EXPECT_THAT(test::error_of<UsageError>([] { read({"balance.scope=microbatch"}); }),
              HasSubstr("data.microbatch_rows is \"auto\", expected a number with balance.scope = \"microbatch\""));
  EXPECT_NO_THROW(read({"balance.scope=microbatch", "data.microbatch_rows=8"}));
}

TEST(Settle, KeepsWhatAnEarlierRunWasSettledTo) {
  test::TinyRun tiny;
  RunConfig first = read({});
  settle(first, {3, true});
  const fs::path file = tiny / "kept.toml";
  write_file(file, first.resolved);
  RunConfig again = read({});
  EXPECT_TRUE(settle_as_kept(again, file));
  EXPECT_EQ(again.resolved, first.resolved);
  RunConfig given = read({"data.microbatch_rows=8"});
  EXPECT_TRUE(settle_as_kept(given, file));
  EXPECT_EQ(given.data.microbatch_rows, 8) << "what the run file gives counts";
  EXPECT_TRUE(given.step.recompute);
  RunConfig other = read({"data.rows_per_step=8"});
  EXPECT_FALSE(settle_as_kept(other, file)) << "3 rows do not divide 8";
  EXPECT_FALSE(settle_as_kept(again = read({}), tiny / "absent.toml"));
  write_file(file, std::string("[data\0noise", 11));
  EXPECT_FALSE(settle_as_kept(again = read({}), file)) << "it cannot be read";
  write_file(file, read({}).resolved);
  EXPECT_FALSE(settle_as_kept(again = read({}), file)) << "nothing was settled there";
}

}  // namespace
}  // namespace moe
