// train.parameters = "experts": the experts of a list train, and nothing else.

#include <cmath>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/hf_names.h"
#include "tests/support/machines.h"
#include "tests/support/methods.h"
#include "tests/support/tiny_run.h"
#include "train/freeze.h"
#include "train/plan_text.h"
#include "train/trained_text.h"

namespace moe {
namespace {

using test::error_of;
using test::TinyRun;
using testing::ElementsAre;
using testing::HasSubstr;

/// Of the tiny model (MoE layers 1 and 2, 6 experts): two runs of experts in one layer, one expert in the other.
ExpertList some_experts() { return {.experts = {{1, {0, 2, 3}}, {2, {5}}}}; }

ExpertList all_experts() {
  return {.experts = {{1, {0, 1, 2, 3, 4, 5}}, {2, {0, 1, 2, 3, 4, 5}}},
          .shared_experts = true,
          .non_expert_modules = true};
}

TEST(ListedExperts, AreWhatTrains) {
  const ExpertList list = some_experts();
  const auto table = training_table(tiny_config(), {}, &list);
  std::vector<std::string> trained;
  for (const Parameter& parameter : table) {
    if (parameter.trained()) trained.push_back(parameter.name);
  }
  EXPECT_THAT(trained, ElementsAre("layers.1.experts.gate_up", "layers.1.experts.down", "layers.2.experts.gate_up",
                                   "layers.2.experts.down"));
  const int64_t each = 3 * tiny_config().moe_intermediate_size * tiny_config().hidden_size;
  EXPECT_EQ(trained_elements(table), 4 * each);
  EXPECT_EQ(trained_elements(table) + frozen_elements(table), count_elements(table));
  ExpertList more = list;
  more.shared_experts = true;
  EXPECT_EQ(trained_elements(training_table(tiny_config(), {}, &more)), (4 + 2 * 2) * each);
  more = all_experts();
  EXPECT_EQ(frozen_elements(training_table(tiny_config(), {}, &more)), 0);
  EXPECT_EQ(trained_elements(training_table(tiny_config(), {"layers.2"}, &list)), 3 * each);
  const ExpertList none{.experts = {{1, {}}}};
  EXPECT_THAT(error_of<Error>([&] { training_table(tiny_config(), {}, &none); }),
              HasSubstr("nothing is left to train"));
}

struct SomeCase {
  std::string method = "deepseekmoe";
  DType dtype = DType::f32;
  bool recompute = false;
  std::string optimizer = "adamw";
  std::string machine = "cpu";
};

void PrintTo(const SomeCase& test, std::ostream* out) {
  *out << test.method << name(test.dtype) << test.optimizer << test.machine;
}

struct ExpertStep {
  ExpertStep(const SomeCase& test, const std::optional<ExpertList>& list, int64_t microbatches)
      : machine(test.machine), batch(packed_batch({{9, 7}, {16}, {5, 5, 5}, {12}}, 16, 23, 3)) {
    const MethodCase method = method_case(test.method);
    StepConfig step = method.step(batch, microbatches, test.dtype);
    step.recompute = test.recompute;
    step.optimizer.kind = test.optimizer;
    step.experts = list;
    if (list) step.parameters = TrainedPart::experts;
    under = std::make_unique<StepUnderTest>(method.config, step, *machine.device, *machine.backend);
    under->accumulate(batch, microbatches);
  }
  std::vector<char> bytes(const View& view) {
    std::vector<char> values(view.bytes());
    machine.device->download(values.data(), view.data, values.size());
    return values;
  }
  TrainingStep& step() { return under->run; }

  Machine machine;
  Batch batch;
  std::unique_ptr<StepUnderTest> under;
};

class SomeExperts : public testing::TestWithParam<SomeCase> {
 protected:
  void SetUp() override { MOE_SKIP_WITHOUT(GetParam().machine); }
};

TEST_P(SomeExperts, HaveTheGradientsOfTheWholeModelBitForBit) {
  for (const int64_t microbatches : {1, 2}) {
    ExpertStep whole(GetParam(), std::nullopt, microbatches), part(GetParam(), some_experts(), microbatches);
    double squares = 0;
    for (size_t p = 0; p < part.step().table().size(); ++p) {
      const Parameter& parameter = part.step().table()[p];
      const View& gradient = part.step().gradients()[p];
      ASSERT_EQ(static_cast<bool>(gradient), parameter.trained()) << parameter.name;
      if (!gradient) continue;
      EXPECT_EQ(gradient.shape, parameter.trained_shape());
      for (const ExpertRun& run : parameter.trained_runs()) {
        EXPECT_EQ(part.bytes(gradient.rows(run.at, run.count)),
                  whole.bytes(whole.step().gradients()[p].rows(run.first, run.count)))
            << parameter.name;
      }
      for (const float value : download_floats(*part.machine.device, gradient)) squares += double{value} * value;
    }
    const StepReport report = part.step().update(1, 0.01), of_whole = whole.step().update(1, 0.01);
    EXPECT_EQ(report.loss, of_whole.loss);
    EXPECT_EQ(report.losses, of_whole.losses);
    EXPECT_GT(squares, 0);
    EXPECT_NEAR(report.gradient_norm, std::sqrt(squares), 1e-5 * std::sqrt(squares));
  }
}

TEST_P(SomeExperts, MoveAndNothingElseDoes) {
  ExpertStep part(GetParam(), some_experts(), 2);
  TrainingStep& step = part.step();
  std::vector<std::vector<char>> before;
  for (const View& view : step.parameters()) before.push_back(part.bytes(view));
  step.update(1, 0.05);
  part.under->accumulate(part.batch, 2);
  step.update(2, 0.05);
  for (size_t p = 0; p < before.size(); ++p) {
    const Parameter& parameter = step.table()[p];
    const View& view = step.parameters()[p];
    if (!parameter.trained()) {
      EXPECT_EQ(part.bytes(view), before[p]) << parameter.name;
      continue;
    }
    std::set<int64_t> listed(parameter.experts.begin(), parameter.experts.end());
    const size_t each = view.bytes() / static_cast<size_t>(view.size(0));
    const std::vector<char> after = part.bytes(view);
    for (int64_t expert = 0; expert < view.size(0); ++expert) {
      const auto at = static_cast<std::ptrdiff_t>(static_cast<size_t>(expert) * each);
      const bool moved = !std::equal(after.begin() + at, after.begin() + at + static_cast<std::ptrdiff_t>(each),
                                     before[p].begin() + at);
      EXPECT_EQ(moved, listed.count(expert) == 1) << parameter.name << " expert " << expert;
    }
  }
  for (const Optimizer::Slot& slot : step.optimizer().slots()) {
    for (size_t p = 0; p < slot.views.size(); ++p) {
      const Parameter& parameter = step.table()[p];
      EXPECT_EQ(static_cast<bool>(slot.views[p]), parameter.trained()) << slot.name << " of " << parameter.name;
      if (slot.views[p]) {
        EXPECT_EQ(slot.views[p].shape, parameter.trained_shape());
      }
    }
  }
}

TEST_P(SomeExperts, OfAllIsTheWholeModelBitForBit) {
  ExpertStep whole(GetParam(), std::nullopt, 2), all(GetParam(), all_experts(), 2);
  EXPECT_EQ(whole.step().update(1, 0.01).gradient_norm, all.step().update(1, 0.01).gradient_norm);
  for (size_t p = 0; p < whole.step().table().size(); ++p) {
    EXPECT_EQ(whole.bytes(whole.step().parameters()[p]), all.bytes(all.step().parameters()[p]))
        << whole.step().table()[p].name;
  }
}

std::vector<SomeCase> some_cases() {
  std::vector<SomeCase> cases;
  for (const std::string& machine : machine_kinds()) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const char* optimizer : {"adamw", "muon"}) {
        cases.push_back({.dtype = dtype, .optimizer = optimizer, .machine = machine});
      }
    }
    cases.push_back({.recompute = true, .machine = machine});
    cases.push_back({.method = "loss_free", .machine = machine});
    cases.push_back({.method = "switch_original", .machine = machine});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(, SomeExperts, testing::ValuesIn(some_cases()), [](const auto& one) {
  const SomeCase& test = one.param;
  return fmt::format("{}_{}_{}{}_{}", test.method, name(test.dtype), test.optimizer, test.recompute ? "_recompute" : "",
                     test.machine);
});

TEST(ListedExperts, CostLessMemoryAndFewerFlops) {
  const Batch batch = packed_batch({{16}, {16}}, 16, 23, 3);
  StepConfig whole = step_config_for(batch, 1, DType::bf16), part = whole;
  part.experts = some_experts();
  const MemoryPlan of_whole = plan_training(tiny_config(), whole), of_part = plan_training(tiny_config(), part);
  EXPECT_LT(of_part.gradients, of_whole.gradients / 3);
  EXPECT_LT(of_part.optimizer, of_whole.optimizer / 3);
  EXPECT_LT(of_part.microbatch_flops, of_whole.microbatch_flops);
  part.experts = ExpertList{.experts = {{1, {0, 2, 4}}, {2, {1, 3, 5}}}};  // as many in more runs
  StepConfig runs = part;
  runs.experts = ExpertList{.experts = {{1, {0, 1, 2}}, {2, {3, 4, 5}}}};
  EXPECT_EQ(plan_training(tiny_config(), part).microbatch_flops, plan_training(tiny_config(), runs).microbatch_flops);
}

/// A model, and a list of experts for it.
struct ExpertRunFiles {
  TinyRun tiny;
  std::string from, list;

  ExpertRunFiles() {
    tiny.train("base");
    from = "model.from=" + (tiny / "base").string();
    list = (tiny / "experts.json").string();
    write_file(list, expert_list_text({.experts = {{0, {1, 3}}, {1, {0}}}}));
  }
  std::vector<std::string> set(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all{from, "train.parameters=experts", "train.experts=" + list};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

std::map<std::string, std::string> tensors_in(const fs::path& file) {
  std::map<std::string, std::string> tensors;
  const SafetensorsFile opened(file);
  for (const SafetensorsTensor& tensor : opened.tensors()) {
    tensors[tensor.name] = std::string(reinterpret_cast<const char*>(tensor.data), tensor.bytes);
  }
  return tensors;
}

TEST(ExpertRuns, ChangeTheListedExpertsTensorsAndNoOther) {
  ExpertRunFiles files;
  files.tiny.train("part", files.set());
  const fs::path checkpoint = files.tiny / "part/step-12";
  const auto before = tensors_in(files.tiny / "base/step-12/model.safetensors");
  const auto after = tensors_in(checkpoint / "model.safetensors");
  std::set<std::string> moved, expected;
  for (const auto& [name, bytes] : before) {
    if (after.at(name) != bytes) moved.insert(name);
  }
  for (const char* expert : {"0.mlp.experts.1", "0.mlp.experts.3", "1.mlp.experts.0"}) {
    for (const char* part : {"gate", "up", "down"}) {
      expected.insert(fmt::format("model.layers.{}.{}_proj.weight", expert, part));
    }
  }
  EXPECT_EQ(moved, expected);
  EXPECT_EQ(read_expert_list(checkpoint / kExpertListFile), read_expert_list(files.list));
  std::set<std::string> remembered;
  for (const auto& [name, bytes] : tensors_in(checkpoint / "optimizer-00001-of-00001.safetensors")) {
    if (name.ends_with(".exp_avg")) remembered.insert(name.substr(0, name.rfind('.')));
  }
  EXPECT_EQ(remembered, expected);
}

TEST(ExpertRuns, ResumeBitForBitWithoutTheModelAndTheList) {
  for (const char* dtype : {"f32", "bf16"}) {
    ExpertRunFiles files;
    const auto set = files.set({fmt::format("train.dtype={}", dtype)});
    files.tiny.train("straight", set);
    files.tiny.train("again", set);
    fs::remove_all(files.tiny / "again/step-12");
    fs::remove(files.tiny / "again/latest");
    fs::remove_all(files.tiny / "base");
    fs::remove(files.list);
    files.tiny.resume("again", set);
    test::expect_same_end(files.tiny, "straight", "again");
  }
}

TEST(ExpertRuns, WithAllExpertsAndBothSwitchesAreTheRunOfAllParameters) {
  ExpertRunFiles files;
  write_file(files.list, expert_list_text({.experts = {{0, {0, 1, 2, 3}}, {1, {0, 1, 2, 3}}},
                                           .shared_experts = true,
                                           .non_expert_modules = true}));
  files.tiny.train("all", {files.from});
  files.tiny.train("listed", files.set());
  test::expect_same_end(files.tiny, "all", "listed");
}

TEST(ExpertRuns, TheTableAtTheStartCountsTheListedExpertsAlone) {
  ExpertRunFiles files;
  const RunConfig run = files.tiny.config("part", files.set());
  const std::vector<Parameter> table = training_table(run.model, run.step);
  int64_t expert = 0;  // three of eight train
  for (const Parameter& parameter : table) {
    if (parameter.kind == ParameterKind::routed_experts && parameter.layer == 0)
      expert += parameter.shape.elements() / 4;
  }
  ASSERT_EQ(trained_elements(table), 3 * expert);
  EXPECT_THAT(trained_text(run, "the device"),
              HasSubstr(fmt::format("{:<28} {:>16} {:>16}", "sum", count_elements(table), 3 * expert)));
}

TEST(ExpertRuns, AreRefusedForAListThatDoesNotFit) {
  ExpertRunFiles files;
  const auto refusal = [&](const std::vector<std::string>& set) {
    return error_of<Error>([&] { files.tiny.train("never", set); });
  };
  EXPECT_THAT(refusal({files.from, "train.parameters=experts"}), HasSubstr("train.experts"));
  EXPECT_THAT(refusal({files.from, "train.experts=" + files.list}), HasSubstr("train.parameters = experts"));
  EXPECT_THAT(refusal(files.set({"train.experts=" + (files.tiny / "nothing.json").string()})),
              HasSubstr("nothing.json"));
  write_file(files.list, R"({"experts": {"0": [4]}})");
  EXPECT_THAT(refusal(files.set()), HasSubstr("layer 0 names expert 4, expected 0 to 3"));
  write_file(files.list, R"({"experts": {"2": [0]}})");
  EXPECT_THAT(refusal(files.set()), HasSubstr("layer 2 has no routed experts"));
  write_file(files.list, R"({"experts": {"0": []}})");
  const std::string empty = refusal(files.set());
  EXPECT_THAT(empty, HasSubstr("nothing is left to train"));
  EXPECT_THAT(empty, HasSubstr("train.experts: "));
  EXPECT_THAT(empty, testing::Not(HasSubstr("train.freeze")));
  EXPECT_FALSE(fs::exists(files.tiny / "never"));
}

TEST(ExpertRuns, AreNotResumedWithAnotherList) {
  ExpertRunFiles files;
  files.tiny.train("part", files.set());
  write_file(files.list, R"({"experts": {"0": [2]}})");
  EXPECT_THAT(error_of<Error>([&] { files.tiny.resume("part", files.set()); }), HasSubstr("names others"));
}

}  // namespace
}  // namespace moe
