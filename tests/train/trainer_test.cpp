// What the trainer feeds and keeps: rows of the right steps, the same end after a resume, refusals before the first
// step. The program as a user types it is tested by tests/e2e/resume_test.py.

#include "train/trainer.h"

#include <numeric>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/transfer.h"
#include "tests/support/tiny_run.h"

namespace moe {
namespace {

using test::error_of;
using test::expect_same_end;
using test::said;
using test::TinyRun;
using testing::HasSubstr;

TEST(Trainer, MicrobatchesOfAStepAreItsRowsInTurn) {
  TinyRun tiny;
  std::vector<std::vector<double>> losses;
  for (const char* rows : {"1", "2", "4"}) {
    const std::string name = std::string("rows-") + rows;
    tiny.train(name, {std::string("data.microbatch_rows=") + rows, "balance.scope=step"});
    losses.emplace_back();
    for (const Json& line : tiny.log(name)) losses.back().push_back(line.at("loss"));
  }
  ASSERT_EQ(losses[0].size(), 12u);
  for (const auto& others : {losses[0], losses[1]}) {
    for (size_t i = 0; i < others.size(); ++i) EXPECT_NEAR(others[i], losses[2][i], 2e-5) << i;
  }
}

TEST(Trainer, AnEpochsStepsHaveEachTokenOnceAndTheFirstStepTheFirstRows) {
  TinyRun tiny;
  const Dataset data(tiny / "data");
  const RunConfig run = tiny.config("unused");
  const BatchSource source(data, {.sequence_length = run.data.sequence_length, .rows_per_step = 1, .seed = run.seed});
  const int64_t epoch = source.rows_per_epoch();
  tiny.train("epoch", {fmt::format("train.steps={}", epoch), "data.rows_per_step=1", "data.microbatch_rows=1",
                       "checkpoint.every=0"});
  std::vector<int64_t> logged, expected;
  for (const Json& line : tiny.log("epoch")) {
    expected.push_back(source.rows(static_cast<int64_t>(logged.size()), 0, 1).num_tokens);
    logged.push_back(line.at("tokens"));
  }
  EXPECT_EQ(logged, expected) << "a line's tokens are those of its own step";
  EXPECT_NE(std::set<int64_t>(logged.begin(), logged.end()).size(), 1u) << "else any step's would do";
  EXPECT_EQ(std::accumulate(logged.begin(), logged.end(), int64_t{0}), data.info().tokens());
  // The first step's loss is that of the first row under the initial weights.
  const auto device = make_cpu_device();
  ThreadPool pool(1);
  const auto backend = make_cpu_backend(pool);
  StepConfig config = run.step;
  config.microbatches = 1;
  config.microbatch_tokens = run.data.sequence_length;
  TrainingStep step(run.model, config, plan_training(run.model, config), *device, *backend);
  step.initialize(run.seed, run.model.initializer_range);
  step.accumulate([&](int64_t) { return source.rows(0, 0, 1); });
  EXPECT_EQ(step.update(1, 0).loss, tiny.log("epoch").front().at("loss").get<double>());
}

/// The CPU's device, which does not say that its memory is the host's: a trainer prepares the next step's batches
/// early.
class DeviceApart final : public Device {
 public:
  void* allocate(size_t bytes, const std::string& purpose) override { return inner_->allocate(bytes, purpose); }
  void release(void* data) override { inner_->release(data); }
  void upload(void* to, const void* from, size_t bytes) override { inner_->upload(to, from, bytes); }
  void download(void* to, const void* from, size_t bytes) override { inner_->download(to, from, bytes); }
  void synchronize() override { inner_->synchronize(); }
  DeviceInfo info() const override {
    DeviceInfo info = inner_->info();
    info.is_host = false;
    return info;
  }

 private:
  std::unique_ptr<Device> inner_ = make_cpu_device();
};

TEST(Trainer, BatchesMadeAStepEarlyAreThoseOfTheirStep) {
  TinyRun tiny;
  tiny.train("in time");
  const RunConfig run = tiny.config("early");
  const Dataset data(run.data.train);
  const Tokenizer tokenizer = Tokenizer::load(run.data.train);
  ThreadPool pool(2);
  DeviceApart device;
  const auto backend = make_cpu_backend(pool);
  Trainer(run, plan_training(run.model, run.step), {data, nullptr, tokenizer}, device, *backend, pool, {}).run();
  expect_same_end(tiny, "in time", "early");
}

TEST(Trainer, InitialWeightsDoNotDependOnThreads) {
  TinyRun tiny;
  const RunConfig run = tiny.config("unused");
  const MemoryPlan plan = plan_training(run.model, run.step);
  const auto device = make_cpu_device();
  std::vector<std::vector<double>> weights;
  for (const int threads : {0, 1, 3}) {
    ThreadPool pool(std::max(threads, 1));
    const auto backend = make_cpu_backend(pool);
    TrainingStep step(run.model, run.step, plan, *device, *backend);
    step.initialize(run.seed, 0.1, {}, threads > 0 ? &pool : nullptr);
    weights.emplace_back();
    for (const View& view : step.masters()) {
      const auto part = download_doubles(*device, view);
      weights.back().insert(weights.back().end(), part.begin(), part.end());
    }
  }
  EXPECT_EQ(weights[0], weights[1]);
  EXPECT_EQ(weights[0], weights[2]);
}

TEST(Trainer, ResumesInEitherTypeWithFrozenParametersAndEveryOptimiser) {
  for (const OptimizerMethod* optimizer : kOptimizers) {
    for (const std::vector<std::string>& more : {std::vector<std::string>{"train.dtype=f32"},
                                                 {"train.dtype=bf16"},
                                                 {"train.dtype=bf16", R"(train.freeze=["embed", "layers.1", "norm"])"},
                                                 {"train.dtype=bf16", R"(train.freeze=["layers.0.experts"])"}}) {
      SCOPED_TRACE(fmt::format("{} {}", optimizer->name, fmt::join(more, " ")));
      std::vector<std::string> set{fmt::format("optimizer.kind={}", optimizer->name)};
      set.insert(set.end(), more.begin(), more.end());
      TinyRun tiny;
      tiny.train("straight", set);
      tiny.train("killed", set);
      fs::remove_all(tiny / "killed/step-12");
      EXPECT_THAT(said([&] { tiny.resume("killed", set); }), HasSubstr("killed/step-8 at step 8"));
      expect_same_end(tiny, "straight", "killed");
    }
  }
}

TEST(Trainer, WhatCannotBeTrainedOrEvaluatedIsRefusedBeforeTheFirstStep) {
  TinyRun tiny;
  const auto refusal = [&](std::vector<std::string> set) {
    const std::string error = error_of<Error>([&] { tiny.train("never", set); });
    EXPECT_FALSE(fs::exists(tiny / "never/log.jsonl"));
    EXPECT_FALSE(fs::exists(tiny / "never/run.toml"));
    return error;
  };
  tiny.make_dataset("single", {"", ""}, true);
  tiny.make_dataset("empty", {"t", "t"}, false);
  const Dataset empty(tiny / "empty");
  ASSERT_EQ(empty.length(0), 1);
  EXPECT_THAT(refusal({"data.train=" + (tiny / "empty").string()}), HasSubstr("no document of two tokens or more"));
  EXPECT_THAT(refusal({"data.valid=" + (tiny / "empty").string()}), HasSubstr("none of the documents to evaluate"));
  std::string prompt;
  for (int i = 0; i < 60; ++i) prompt += " river";
  EXPECT_THAT(refusal({"sample.prompts=[\"the\", \"" + prompt + "\"]"}),
              testing::AllOf(HasSubstr("sample.prompts, number 2"), HasSubstr("shorten it")));
  EXPECT_THAT(refusal({"model.vocab_size=289"}), HasSubstr("model.vocab_size is 289"));
  // Another tokenizer's files beside the tokens.
  fs::copy(tiny / "data", tiny / "mixed", fs::copy_options::recursive);
  std::string tokenizer = read_file(tiny / "mixed/tokenizer.json");
  for (size_t at; (at = tokenizer.find("reserved_3")) != std::string::npos;) tokenizer.replace(at, 10, "reserved_x");
  write_file(tiny / "mixed/tokenizer.json", tokenizer);
  EXPECT_THAT(refusal({"data.train=" + (tiny / "mixed").string()}),
              HasSubstr("not those that its tokens were made with"));
}

TEST(Trainer, ADatasetOfTheSameTotalsIsAnotherDataset) {
  TinyRun tiny;
  tiny.train("run");
  fs::remove_all(tiny / "run/step-12");
  auto texts = test::tiny_texts(60, 1);
  std::swap(texts[3], texts[4]);
  tiny.make_dataset("swapped", texts);
  const std::vector<std::string> set{"data.train=" + (tiny / "swapped").string()};
  ASSERT_EQ(Dataset(tiny / "swapped").info(), Dataset(tiny / "data").info());
  EXPECT_THAT(error_of<Error>([&] { tiny.resume("run", set); }),
              testing::AllOf(HasSubstr("data.train"), HasSubstr("fingerprint"), HasSubstr("--allow-change")));
  EXPECT_EQ(tiny.train("run", set, {.resume = true, .allowed = {"data.train"}}), 0);
  EXPECT_EQ(tiny.log("run", "changes.jsonl").size(), 1u);
}

TEST(Trainer, FewerStepsThanAreDoneAreRefusedWithBothNumbers) {
  TinyRun tiny;
  tiny.train("run");
  const std::string error = error_of<Error>([&] { tiny.resume("run", {"train.steps=5"}); });
  EXPECT_THAT(error, HasSubstr("has done 12 steps, but train.steps is 5"));
  EXPECT_THAT(read_file(tiny / "run/run.toml"), HasSubstr("steps = 12"));
}

}  // namespace
}  // namespace moe
