// train.objective = "dpo": against an independent PyTorch program, and as whole runs.

#include "train/preference.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/hf_config.h"
#include "checkpoint/hf_names.h"
#include "checkpoint/weights.h"
#include "tests/support/golden.h"
#include "tests/support/machines.h"
#include "tests/support/tiny_run.h"

namespace moe {
namespace {

using test::error_of;
using test::TinyRun;
using testing::HasSubstr;

TEST(PreferenceSums, AreTheFormulas) {
  PreferenceSums sums(0.5);
  EXPECT_DOUBLE_EQ(sums.add(3, 1), 0.5 / (1 + std::exp(1.0)));    // z = 1
  EXPECT_DOUBLE_EQ(sums.add(-2, 2), 0.5 / (1 + std::exp(-2.0)));  // z = -2
  EXPECT_DOUBLE_EQ(sums.add(1, 1), 0.25);
  const PreferenceReport mean = sums.mean();
  EXPECT_NEAR(mean.loss, (std::log1p(std::exp(-1.0)) + std::log1p(std::exp(2.0)) + std::log(2.0)) / 3, 1e-15);
  EXPECT_DOUBLE_EQ(mean.accuracy, 0.5);
  EXPECT_DOUBLE_EQ(mean.margin, -1.0 / 3);
  EXPECT_DOUBLE_EQ(mean.chosen, 0.5 * 2 / 3);
  EXPECT_DOUBLE_EQ(mean.rejected, 0.5 * 4 / 3);
  PreferenceSums far(1);
  EXPECT_NEAR(far.add(-2000, 2000), 1, 1e-12);
  EXPECT_NEAR(far.mean().loss, 4000, 1e-9);
  EXPECT_EQ(far.add(2000, -2000), 0);
}

class DpoGolden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { MOE_SKIP_WITHOUT(GetParam()); }
};

TEST_P(DpoGolden, LossAndGradientsAgreeForAnyMicrobatches) {
  Machine machine(GetParam());
  const SafetensorsFile file(golden_folder() / "dpo/golden.safetensors");
  const Json golden = read_json(golden_folder() / "dpo/golden.json");
  const auto& shape = file.find("input.tokens")->shape;
  const fs::path folder = golden_folder() / golden.at("model").get<std::string>();
  const ModelConfig config = read_hf_config(folder);
  const auto reference = golden.at("reference").get<std::vector<double>>();
  const Batch whole = golden_batch(file, shape[0], shape[1]);
  for (const int64_t microbatches : {1, 2}) {
    StepConfig step = step_config_for(whole, microbatches);
    step.balance = {};
    step.objective = Objective::dpo;
    step.dpo_beta = golden.at("beta");
    TrainingStep run(config, step, plan_training(config, step), *machine.device, *machine.backend);
    run.initialize(1, 0.1);
    load_weights(folder, config, run.table(), run.parameters(), *machine.device);
    const int64_t rows = shape[0] / microbatches;
    run.accumulate([&](int64_t index) {
      Batch batch = batch_rows(whole, index * rows, rows);
      const auto first = static_cast<std::ptrdiff_t>(index * 2 * rows);  // a pair in each row
      batch.reference.assign(reference.begin() + first, reference.begin() + first + 2 * rows);
      return batch;
    });
    int compared = 0;
    for (const HfTensor& tensor : hf_tensors(config, run.table())) {
      const SafetensorsTensor* expected = file.find("grad." + tensor.name);
      ASSERT_NE(expected, nullptr) << tensor.name;
      const std::vector<float> found = download_floats(*machine.device, run.gradients()[tensor.parameter]);
      EXPECT_LT(relative_error(found.data() + tensor.offset, *expected), 3e-5) << tensor.name;
      ++compared;
    }
    EXPECT_GT(compared, 20);
    const StepReport report = run.update(1, 0.0);
    ASSERT_TRUE(report.preference.has_value());
    EXPECT_NEAR(report.loss, golden.at("loss").get<double>(), 1e-5);
    EXPECT_EQ(report.preference->accuracy, golden.at("accuracy").get<double>());
    EXPECT_NEAR(report.preference->margin, golden.at("margin").get<double>(), 1e-5);
    EXPECT_NEAR(report.preference->chosen, golden.at("chosen_reward").get<double>(), 1e-5);
    EXPECT_NEAR(report.preference->rejected, golden.at("rejected_reward").get<double>(), 1e-5);
    const double norm = golden.at("grad_norm");
    EXPECT_NEAR(report.gradient_norm, norm, 1e-5 * norm);
  }
}

INSTANTIATE_TEST_SUITE_P(On, DpoGolden, testing::ValuesIn(machine_kinds()),
                         [](const auto& test) { return test.param; });

/// A run's model, and pairs: "the" and words, where the chosen text begins with other words than the rejected one.
struct PreferenceRun {
  TinyRun tiny;
  std::vector<std::string> set;

  PreferenceRun() {
    const std::string positions = "model.max_position_embeddings=64";
    tiny.train("base", {positions});
    make_pairs("pairs", 40, 5);
    make_pairs("valid-pairs", 8, 6);
    set = {"model.from=" + (tiny / "base").string(),
           "train.objective=dpo",
           "data.sequence_length=64",  // for both conversations of a pair
           positions,
           "data.train=" + (tiny / "pairs").string(),
           "data.valid=" + (tiny / "valid-pairs").string(),
           "eval.every=6",
           "optimizer.learning_rate=3e-3"};
  }

  void make_pairs(const std::string& name, int count, uint64_t seed) {
    const Tokenizer tokenizer = Tokenizer::load(tiny / "tokenizer");
    DatasetWriter writer(tiny / name, {.vocab_size = 290,
                                       .bos_id = *tokenizer.bos(),
                                       .eos_id = *tokenizer.eos(),
                                       .tokenizer_fingerprint = tokenizer_fingerprint(tiny / "tokenizer"),
                                       .domains = {},
                                       .pairs = true});
    const int32_t domain = writer.add_domain("pairs");
    const Random random(seed, 3);
    uint64_t draw = 0;
    for (int pair = 0; pair < count; ++pair) {
      const auto word = [&] { return random.below(draw++, 2) == 0 ? " old" : " green"; };
      const std::string prompt = std::string("the") + word(), end = word();
      for (const char* answer : {" river walks", " stone sings"}) {
        std::vector<int32_t> ids{*tokenizer.bos()};
        tokenizer.encode(prompt, {.add_special = false}, ids);
        std::vector<uint8_t> marks(ids.size(), 0);
        tokenizer.encode(answer + end, {.add_special = false}, ids);
        ids.push_back(*tokenizer.eos());
        marks.resize(ids.size(), 1);
        writer.add_marked(ids, marks, domain, 20, 10);
      }
    }
    tokenizer.save(writer.temporary_folder());
    writer.finish();
  }
  std::vector<std::string> with(const std::vector<std::string>& more) const {
    std::vector<std::string> all = set;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

TEST(PreferenceRuns, BeginAtLn2AndLearnThePreference) {
  PreferenceRun run;
  run.tiny.train("dpo", run.set);
  const auto log = run.tiny.log("dpo");
  EXPECT_EQ(log[0].at("loss").get<double>(), std::log(2.0)) << "the reference is the model itself, bit for bit";
  EXPECT_EQ(log[0].at("margin"), 0);
  EXPECT_EQ(log[0].at("accuracy"), 0.5);
  EXPECT_LT(log.back().at("loss"), 0.6 * std::log(2.0));
  EXPECT_EQ(log.back().at("accuracy"), 1);
  const Json evaluated = run.tiny.log("dpo", "eval.jsonl").back();
  EXPECT_LT(evaluated.at("preference_loss"), 0.6 * std::log(2.0));
  EXPECT_EQ(evaluated.at("accuracy"), 1);
  EXPECT_GT(evaluated.at("chosen_reward").get<double>(), evaluated.at("rejected_reward").get<double>());
  EXPECT_NEAR(evaluated.at("margin").get<double>(),
              evaluated.at("chosen_reward").get<double>() - evaluated.at("rejected_reward").get<double>(), 1e-12);
}

TEST(PreferenceRuns, DoNotDependOnMicrobatches) {
  PreferenceRun run;
  run.tiny.train("two", run.with({"balance.alpha_expert=0"}));
  run.tiny.train("four", run.with({"balance.alpha_expert=0", "data.microbatch_rows=1"}));
  const auto two = run.tiny.log("two"), four = run.tiny.log("four");
  for (size_t step = 0; step < two.size(); ++step) {
    const double loss = two[step].at("loss");
    EXPECT_NEAR(loss, four[step].at("loss").get<double>(), 2e-5 * loss) << step;
  }
}

TEST(PreferenceRuns, ResumeBitForBitWithoutTheModel) {
  for (const char* dtype : {"f32", "bf16"}) {
    PreferenceRun run;
    const auto set = run.with({fmt::format("train.dtype={}", dtype)});
    run.tiny.train("straight", set);
    run.tiny.train("again", set);
    fs::remove_all(run.tiny / "again/step-12");
    fs::remove(run.tiny / "again/latest");
    fs::remove_all(run.tiny / "base");
    run.tiny.resume("again", set);
    test::expect_same_end(run.tiny, "straight", "again");
    EXPECT_EQ(run.tiny.log("straight", "eval.jsonl"), run.tiny.log("again", "eval.jsonl"));
  }
}

TEST(PreferenceRuns, OfExpertsMoveThemAlone) {
  PreferenceRun run;
  const std::string list = (run.tiny / "experts.json").string();
  write_file(list, R"({"experts": {"0": [1, 2], "1": [0]}})");
  run.tiny.train("part", run.with({"train.parameters=experts", "train.experts=" + list}));
  const SafetensorsFile before(run.tiny / "base/step-12/model.safetensors");
  const SafetensorsFile after(run.tiny / "part/step-12/model.safetensors");
  int moved = 0;
  for (const SafetensorsTensor& tensor : before.tensors()) {
    const SafetensorsTensor* const now = after.find(tensor.name);
    ASSERT_NE(now, nullptr);
    const bool same = std::memcmp(tensor.data, now->data, tensor.bytes) == 0;
    const bool listed = tensor.name.find("layers.0.mlp.experts.1.") != std::string::npos ||
                        tensor.name.find("layers.0.mlp.experts.2.") != std::string::npos ||
                        tensor.name.find("layers.1.mlp.experts.0.") != std::string::npos;
    EXPECT_EQ(same, !listed) << tensor.name;
    moved += same ? 0 : 1;
  }
  EXPECT_EQ(moved, 9);
  EXPECT_LT(run.tiny.log("part").back().at("loss"), std::log(2.0));
}

TEST(PreferenceRuns, OfAdaptersBeginAtTheModelAndResumeBitForBit) {
  PreferenceRun run;
  const std::string list = (run.tiny / "experts.json").string();
  write_file(list, R"({"experts": {"0": [1, 2], "1": [0]}})");
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{}, {"train.experts=" + list}, {"train.dtype=bf16", "lora.base=q8_0"}}) {
    std::vector<std::string> set = run.with({"train.parameters=lora", "lora.rank=4", "optimizer.weight_decay=0"});
    set.insert(set.end(), more.begin(), more.end());
    for (const char* name : {"straight", "again"}) run.tiny.train(name, set);
    const auto log = run.tiny.log("straight");
    EXPECT_NEAR(log[0].at("loss").get<double>(), std::log(2.0), 1e-12) << "the reference is the model without change";
    EXPECT_LT(log.back().at("loss"), 0.9 * std::log(2.0));
    EXPECT_TRUE(fs::exists(run.tiny / "straight/step-12/adapter_model.safetensors"));
    fs::remove_all(run.tiny / "again/step-12");
    fs::remove(run.tiny / "again/latest");
    run.tiny.resume("again", set);
    EXPECT_EQ(run.tiny.log("straight"), run.tiny.log("again"));
    for (const char* name : {"straight", "again"}) fs::remove_all(run.tiny / name);
  }
}

TEST(PreferenceRuns, AreRefusedForOtherDataAndPairsForOtherRuns) {
  PreferenceRun run;
  const auto refusal = [&](const std::vector<std::string>& set) {
    return error_of<Error>([&] { run.tiny.train("never", set); });
  };
  EXPECT_THAT(refusal(run.with({"data.train=" + (run.tiny / "data").string()})), HasSubstr("has no preferences"));
  EXPECT_THAT(refusal(run.with({"data.valid=" + (run.tiny / "valid").string()})), HasSubstr("has no preferences"));
  EXPECT_THAT(refusal({"data.train=" + (run.tiny / "pairs").string()}), HasSubstr("is a dataset of preferences"));
  EXPECT_THAT(refusal({"train.objective=dpo", "data.train=" + (run.tiny / "pairs").string()}), HasSubstr("model.from"));
  EXPECT_THAT(refusal({"dpo.beta=0.5"}), HasSubstr("train.objective = dpo"));
  EXPECT_THAT(refusal(run.with({"data.sequence_length=9"})), HasSubstr("a row has 9"));
  EXPECT_FALSE(fs::exists(run.tiny / "never/log.jsonl"));
}

TEST(PreferenceRuns, AreNotResumedWithoutTheReferenceOrWithAnother) {
  PreferenceRun run;
  run.tiny.train("dpo", run.set);
  const fs::path kept = run.tiny / "dpo/reference.json";
  const std::string text = read_file(kept);
  fs::remove_all(run.tiny / "dpo/step-12");
  fs::remove(run.tiny / "dpo/latest");
  fs::remove(kept);
  EXPECT_THAT(error_of<Error>([&] { run.tiny.resume("dpo", run.set); }), HasSubstr("reference.json"));
  write_file(kept, text.substr(0, text.size() / 2));
  EXPECT_THAT(error_of<Error>([&] { run.tiny.resume("dpo", run.set); }), HasSubstr("reference.json"));
  std::string changed = text;  // still a number
  changed[changed.find_last_of("2468")] ^= 1;
  write_file(kept, changed);
  EXPECT_THAT(error_of<Error>([&] { run.tiny.resume("dpo", run.set); }),
              testing::AllOf(HasSubstr("do not have its checksum"), HasSubstr("or begin a new run")));
  write_file(kept, text);
  run.make_pairs("others", 8, 9);
  EXPECT_THAT(
      error_of<Error>([&] { run.tiny.resume("dpo", run.with({"data.valid=" + (run.tiny / "others").string()})); }),
      HasSubstr("the reference of another data.valid"));
}

}  // namespace
}  // namespace moe
