// What the trainer feeds, logs and keeps: rows of the right steps, checkpoints that a disk or a kill has damaged,
// errors in the middle of a run. The program as a user types it is tested by tests/e2e/resume_test.py.

#include "train/trainer.h"

#include <cmath>
#include <cstring>
#include <numeric>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/temporary.h"
#include "checkpoint/checkpoint_folder.h"
#include "checkpoint/checksums.h"
#include "formats/safetensors.h"
#include "ops/transfer.h"
#include "tests/support/tiny_run.h"

namespace moe {
namespace {

using test::error_of;
using test::FullDisk;
using test::TinyRun;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

/// What `function` writes to stderr.
template <class Function>
std::string said(const Function& function) {
  testing::internal::CaptureStderr();
  function();
  return testing::internal::GetCapturedStderr();
}

void expect_same_end(const TinyRun& tiny, const std::string& a, const std::string& b) {
  EXPECT_EQ(tiny.log(a), tiny.log(b));
  for (const char* file : {"step-12/model.safetensors", "step-12/optimizer-00001-of-00001.safetensors"}) {
    EXPECT_EQ(read_file(tiny / a / file), read_file(tiny / b / file)) << file;
  }
}

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
  for (const std::vector<std::string>& set :
       {std::vector<std::string>{"train.dtype=f32"},
        {"train.dtype=bf16"},
        {"train.dtype=bf16", R"(train.freeze=["embed", "layers.1", "norm"])"},
        {"optimizer.kind=muon"},
        {"optimizer.kind=muon", "train.dtype=bf16", R"(train.freeze=["layers.0.experts"])"}}) {
    TinyRun tiny;
    tiny.train("straight", set);
    tiny.train("killed", set);
    fs::remove_all(tiny / "killed/step-12");
    EXPECT_THAT(said([&] { tiny.resume("killed", set); }), HasSubstr("killed/step-8 at step 8"));
    expect_same_end(tiny, "straight", "killed");
  }
}

TEST(Trainer, TakesTheNewestGoodCheckpointAndSaysSo) {
  using Damage = std::function<void(const fs::path&)>;
  const auto cut = [](const char* file) {  // more than a line feed at the end
    return [=](const fs::path& folder) { fs::resize_file(folder / file, fs::file_size(folder / file) - 3); };
  };
  const auto gone = [](const char* file) { return [=](const fs::path& folder) { fs::remove(folder / file); }; };
  const auto text = [](const char* file, const char* content) {
    return [=](const fs::path& folder) { write_file(folder / file, content); };
  };
  const std::vector<std::pair<std::string, Damage>> damages{
      {"model.safetensors", cut("model.safetensors")},
      {"model.safetensors", gone("model.safetensors")},
      {"model.safetensors", [](const fs::path& folder) { GrowingFile(folder / "model.safetensors").write("x"); }},
      {"optimizer-00001-of-00001.safetensors", cut("optimizer-00001-of-00001.safetensors")},
      {"optimizer-", gone("optimizer-00001-of-00001.safetensors")},
      {"optimizer-00002-of-00002.safetensors is missing",
       [](const fs::path& folder) {
         fs::rename(folder / "optimizer-00001-of-00001.safetensors", folder / "optimizer-00001-of-00002.safetensors");
       }},
      {"config.json", cut("config.json")},
      {"config.json", gone("config.json")},
      {"tokenizer.json", gone("tokenizer.json")},
      {"tokenizer.json", cut("tokenizer.json")},
      {"run.toml", text("run.toml", "[train\n")},
      {"trainer_state.json", gone("trainer_state.json")},
      {"trainer_state.json", cut("trainer_state.json")},
      {"trainer_state.json", text("trainer_state.json", "{}")},
      {"trainer_state.json", text("trainer_state.json", "[1, 2]")},
      {"trainer_state.json", text("trainer_state.json", "")},
  };
  TinyRun tiny;
  tiny.train("straight");
  for (size_t i = 0; i < damages.size(); ++i) {
    const auto& [names, damage] = damages[i];
    const std::string name = fmt::format("damaged-{}", i);
    fs::copy(tiny / "straight", tiny / name, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    damage(tiny / name / "step-12");
    const std::string what = said([&] { tiny.resume(name); });
    EXPECT_THAT(what, HasSubstr(names)) << i;
    EXPECT_THAT(what, HasSubstr("set aside as")) << i;
    EXPECT_THAT(what, HasSubstr("/step-8 at step 8")) << i;
    EXPECT_TRUE(fs::exists(tiny / name / "step-12.damaged"));
    EXPECT_EQ(fs::read_symlink(tiny / name / "latest"), "step-12");
    expect_same_end(tiny, "straight", name);
  }
}

TEST(Trainer, WithoutAGoodCheckpointEveryDamageIsSaid) {
  TinyRun tiny;
  tiny.train("run");
  for (const char* step : {"step-8", "step-12"}) fs::resize_file(tiny / "run" / step / "model.safetensors", 100);
  const std::string error = error_of<Error>([&] { tiny.resume("run"); });
  EXPECT_THAT(error, HasSubstr("has no checkpoint that training can continue from"));
  EXPECT_THAT(error, HasSubstr("step-8/model.safetensors"));
  EXPECT_THAT(error, HasSubstr("step-12/model.safetensors"));
}

TEST(Trainer, GoesOnFromACopyHoweverLatestWasCopied) {
  TinyRun tiny;
  tiny.train("straight");
  const auto copied = [&](const std::string& name) {
    fs::copy(tiny / "straight", tiny / name, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    fs::remove(tiny / name / "latest");
    fs::remove_all(tiny / name / "step-12");
    return tiny / name;
  };
  const auto folder = copied("a-folder");
  fs::copy(folder / "step-8", folder / "latest", fs::copy_options::recursive);
  const auto text = copied("a-text");
  write_file(text / "latest", "step-8");
  const auto none = copied("none");
  const auto alone = copied("alone");  // nothing but the copy
  fs::rename(alone / "step-8", alone / "latest");
  fs::remove_all(alone / "step-4");
  for (const char* name : {"a-folder", "a-text", "none", "alone"}) {
    EXPECT_THAT(said([&] { tiny.resume(name); }), HasSubstr("step-8 at step 8")) << name;
    expect_same_end(tiny, "straight", name);
    EXPECT_EQ(fs::read_symlink(tiny / name / "latest"), "step-12") << name;
  }
}

TEST(Trainer, LogsThatAreShorterThanTheCheckpointKnowsAreNotLengthened) {
  TinyRun tiny;
  tiny.train("straight", {"data.valid=" + (tiny / "valid").string(), "eval.every=4"});
  const std::vector<std::string> set{"data.valid=" + (tiny / "valid").string(), "eval.every=4"};
  const std::string whole = read_file(tiny / "straight/log.jsonl");
  const size_t three_lines = whole.find("{\"step\":4,");
  for (const std::string& left : {std::string(), whole.substr(0, three_lines), whole.substr(0, three_lines - 10)}) {
    fs::remove_all(tiny / "short");
    fs::copy(tiny / "straight", tiny / "short", fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    fs::remove_all(tiny / "short/step-12");
    fs::remove(tiny / "short/eval.jsonl");
    write_file(tiny / "short/log.jsonl", left);
    const std::string what = said([&] { tiny.resume("short", set); });
    EXPECT_THAT(what, HasSubstr("log.jsonl has"));
    EXPECT_THAT(what, HasSubstr("eval.jsonl has 0 bytes"));
    EXPECT_THAT(what, HasSubstr("some lines are missing"));
    EXPECT_THAT(read_file(tiny / "short/log.jsonl"), Not(HasSubstr(std::string(1, '\0'))));
    std::vector<int64_t> steps;
    for (const Json& line : tiny.log("short")) steps.push_back(line.at("step"));
    const int64_t old = left.empty() ? 0 : left.size() == three_lines ? 3 : 2;
    for (int64_t i = 0; i < static_cast<int64_t>(steps.size()); ++i) {
      EXPECT_EQ(steps[static_cast<size_t>(i)], i < old ? i + 1 : i - old + 9);
    }
    EXPECT_EQ(steps.size(), static_cast<size_t>(old + 4));
    EXPECT_EQ(tiny.log("short", "eval.jsonl").size(), 2u) << "step 8's is made again";
  }
}

TEST(Trainer, LogsAreOnTheDiskBeforeTheCheckpointThatCountsThem) {
  TinyRun tiny;
  std::vector<std::string> calls;
  note_disk_calls(&calls);
  tiny.train("run", {"train.steps=1"});
  note_disk_calls(nullptr);
  const auto at = [&](const std::string& call) {
    const auto found = std::find(calls.begin(), calls.end(), call);
    EXPECT_NE(found, calls.end()) << call << " of " << testing::PrintToString(calls);
    return found - calls.begin();
  };
  EXPECT_LT(at("sync log.jsonl"), at("sync trainer_state.json"));
  EXPECT_LT(at("sync eval.jsonl"), at("sync trainer_state.json"));
  EXPECT_LT(at("sync model.safetensors"), at("sync trainer_state.json"));
  EXPECT_EQ(load_trainer_state(tiny / "run/step-1").log_bytes,
            static_cast<int64_t>(fs::file_size(tiny / "run/log.jsonl")));
}

TEST(Trainer, ACheckpointThatCannotBeWrittenIsTriedAgain) {
  TinyRun tiny;
  tiny.train("straight");
  make_folder(tiny / "run");
  write_file(tiny / "run/step-4", "in the way");
  const std::string what = said([&] { tiny.train("run"); });
  EXPECT_THAT(what, HasSubstr("warning: the checkpoint of step 4 was NOT written: cannot rename"));
  EXPECT_THAT(what, HasSubstr("the newest one is none"));
  EXPECT_FALSE(fs::exists(tiny / "run/step-4.tmp"));
  EXPECT_TRUE(fs::exists(tiny / "run/step-8/model.safetensors"));
  expect_same_end(tiny, "straight", "run");
}

TEST(Trainer, CheckpointsByTheClockChangeNothingInTheRun) {
  TinyRun tiny;
  tiny.train("straight");
  tiny.train("timed", {"checkpoint.every=0", "checkpoint.minutes=1e-9", "checkpoint.keep_last=20"});
  for (int step = 1; step <= 12; ++step) EXPECT_TRUE(fs::exists(tiny / fmt::format("timed/step-{}", step))) << step;
  expect_same_end(tiny, "straight", "timed");
  tiny.train("never", {"checkpoint.every=0", "checkpoint.minutes=0", "checkpoint.keep_last=20"});
  tiny.train("later", {"checkpoint.every=0", "checkpoint.keep_last=20"});
  for (const char* name : {"never", "later"}) {
    EXPECT_FALSE(fs::exists(tiny / name / "step-11")) << name;
    EXPECT_TRUE(fs::exists(tiny / name / "step-12")) << name;
  }
  EXPECT_EQ(tiny.config("unused").checkpoint.minutes, 15);
}

TEST(Trainer, TheLastCheckpointThatCannotBeWrittenIsAnError) {
  TinyRun tiny;
  make_folder(tiny / "run");
  write_file(tiny / "run/step-12", "in the way");
  said([&] { EXPECT_THAT(error_of<Error>([&] { tiny.train("run"); }), HasSubstr("cannot rename")); });
  EXPECT_EQ(fs::read_symlink(tiny / "run/latest"), "step-8");
}

TEST(Trainer, ALogThatCannotBeWrittenForAWhileLosesNoLine) {
  TinyRun tiny;
  PatientLog log(tiny / "patient.jsonl");
  log.write("1\n");
  const std::string what = said([&] {
    const FullDisk disk(0);
    log.write("2\n");
    log.write("3\n");
    EXPECT_THAT(error_of<Error>([&] { log.sync(); }), HasSubstr("cannot write"));
  });
  EXPECT_EQ(what.find("warning:"), what.rfind("warning:")) << "said once";
  EXPECT_EQ(read_file(tiny / "patient.jsonl"), "1\n");
  log.write("4\n");
  EXPECT_EQ(log.sync(), 8);
  EXPECT_EQ(read_file(tiny / "patient.jsonl"), "1\n2\n3\n4\n");
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

TEST(Trainer, AnErrorBehindAStepLeavesItsCheckpoint) {
  TinyRun tiny;
  tiny.train("straight");
  // Damage of the validation set that only reading it shows: an id outside the vocabulary.
  tiny.make_dataset("bad", test::tiny_texts(4, 3));
  const fs::path shard = tiny / "bad/tokens-00000.bin";
  std::string bytes = read_file(shard);
  bytes[16 + 20] = '\xff';
  bytes[16 + 21] = '\xff';
  write_file(shard, bytes);
  const std::vector<std::string> set{"data.valid=" + (tiny / "bad").string(), "eval.every=6"};
  const std::string what =
      said([&] { EXPECT_THAT(error_of<Error>([&] { tiny.train("run", set); }), HasSubstr("bad")); });
  EXPECT_THAT(what, HasSubstr("the checkpoint of step 6 is"));
  EXPECT_EQ(fs::read_symlink(tiny / "run/latest"), "step-6");
  EXPECT_EQ(tiny.resume("run"), 0);
  expect_same_end(tiny, "straight", "run");
}

// Makes a tensor infinite.
void poison(const fs::path& folder, const std::string& name) {
  const fs::path path = folder / "optimizer-00001-of-00001.safetensors";
  std::string bytes = read_file(path);
  {
    const SafetensorsFile file(path);
    const SafetensorsTensor* const tensor = file.find(name);
    ASSERT_NE(tensor, nullptr);
    const float large = INFINITY;
    const std::string whole(reinterpret_cast<const char*>(tensor->data), tensor->bytes);
    const size_t at = bytes.find(whole);
    ASSERT_NE(at, std::string::npos);
    for (size_t i = 0; i < tensor->bytes; i += sizeof(large)) std::memcpy(&bytes[at + i], &large, sizeof(large));
  }
  write_file(path, bytes);
  fs::remove(folder / kChecksumFile);
}

TEST(Trainer, AGradientThatIsNotFiniteIsNamedAndTheLastCheckpointStaysGood) {
  TinyRun tiny;
  tiny.train("run");
  fs::remove_all(tiny / "run/step-12");
  poison(tiny / "run/step-8", "model.layers.1.mlp.experts.2.down_proj.weight.master");
  const std::string what = error_of<Error>([&] { tiny.resume("run", {"checkpoint.every=1"}); });
  EXPECT_THAT(what, HasSubstr("at step 9"));
  EXPECT_THAT(what, HasSubstr("training has diverged"));
  EXPECT_THAT(what, HasSubstr("weights of 1 tensor are not finite, first layers.1.experts.down (layer 1)"));
  EXPECT_THAT(what, HasSubstr("gradients of "));
  EXPECT_THAT(what, HasSubstr("the newest checkpoint is " + (tiny / "run/step-8").string()));
  EXPECT_EQ(fs::read_symlink(tiny / "run/latest"), "step-8");
  EXPECT_EQ(check_checkpoint(tiny / "run/step-8").step, 8);
  EXPECT_EQ(tiny.log("run").size(), 8u);
}

TEST(Trainer, AStepWithAGradientThatIsNotFiniteChangesNoBit) {
  for (const auto& [dtype, optimizer] :
       {std::pair{"f32", "adamw"}, {"bf16", "adamw"}, {"f32", "muon"}, {"bf16", "muon"}}) {
    TinyRun tiny;
    const RunConfig run = tiny.config("unused", {fmt::format("train.dtype={}", dtype), "model.method=loss_free",
                                                 fmt::format("optimizer.kind={}", optimizer)});
    const Dataset data(tiny / "data");
    const BatchSource source(data, {.sequence_length = run.data.sequence_length, .rows_per_step = 4, .seed = 1});
    const auto device = make_cpu_device();
    ThreadPool pool(1);
    const auto backend = make_cpu_backend(pool);
    TrainingStep step(run.model, run.step, plan_training(run.model, run.step), *device, *backend);
    step.initialize(1, 0.1);
    const auto make_step = [&](int64_t number) {
      step.accumulate([&](int64_t i) { return source.rows(number - 1, i * 2, 2); }, number);
      return step.update(number, 1e-2);
    };
    const auto bits = [&] {
      std::string all;
      std::vector<const std::vector<View>*> sets{&step.parameters(), &step.masters()};
      for (const Optimizer::Slot& slot : step.optimizer().slots()) sets.push_back(&slot.views);
      for (const auto* views : sets) {
        for (const View& view : *views) {
          if (view) all.append(static_cast<const char*>(view.data), view.bytes());
        }
      }
      return all;
    };
    const std::string before = bits();
    EXPECT_TRUE(std::isfinite(make_step(1).gradient_norm));
    EXPECT_FALSE(bits() == before);
    for (size_t i = 0; i < step.table().size(); ++i) {
      if (step.table()[i].name != "layers.1.experts.down") continue;
      backend->run(Fill{.x = step.masters()[i], .value = INFINITY});
      if (step.masters()[i].data != step.parameters()[i].data) {
        backend->run(Cast{.x = step.masters()[i], .y = step.parameters()[i]});
      }
    }
    const std::string poisoned = bits();
    EXPECT_FALSE(std::isfinite(make_step(2).gradient_norm));
    EXPECT_TRUE(bits() == poisoned) << dtype;
    const auto found = step.find_not_finite();
    EXPECT_FALSE(found.gradients.empty());
    ASSERT_EQ(found.weights.size(), 1u);
    EXPECT_EQ(step.table()[found.weights[0]].name, "layers.1.experts.down");
  }
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
