// train.freeze: which parameters a name stands for, and what a step does with them.

#include "train/freeze.h"

#include <cmath>
#include <set>

#include <gmock/gmock.h>

#include "ops/record.h"
#include "tests/support/machines.h"
#include "tests/support/methods.h"
#include "tests/support/temporary_folder.h"
#include "train/plan_text.h"

namespace moe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> frozen_names(const std::vector<std::string>& names) {
  std::vector<std::string> frozen;
  for (const Parameter& parameter : training_table(tiny_config(), names)) {
    if (parameter.frozen) frozen.push_back(parameter.name);
  }
  return frozen;
}

TEST(Freeze, NamesStandForAParameterOrForAllThatBeginWithThem) {
  EXPECT_THAT(frozen_names({}), ElementsAre());
  EXPECT_THAT(frozen_names({"embed"}), ElementsAre("embedding"));
  EXPECT_THAT(frozen_names({"embedding", "norm", "head"}), ElementsAre("embedding", "norm", "head"));
  EXPECT_THAT(frozen_names({"layers.0.attention"}),
              ElementsAre("layers.0.attention.norm", "layers.0.attention.qkv", "layers.0.attention.output"));
  EXPECT_THAT(
      frozen_names({"layers.1-2.router", "layers.*.ffn.norm"}),
      ElementsAre("layers.0.ffn.norm", "layers.1.ffn.norm", "layers.1.router", "layers.2.ffn.norm", "layers.2.router"));
  EXPECT_THAT(frozen_names({"layers.*.ffn.down"}), ElementsAre("layers.0.ffn.down"));
  EXPECT_EQ(frozen_names({"layers.2"}).size(), 9u);
  EXPECT_EQ(frozen_names({"layers.*"}).size() + 3, parameter_table(tiny_config()).size());
}

TEST(Freeze, ANameThatStandsForNothingIsRefusedWithTheListOfWhatThereIs) {
  for (const char* name :
       {"", "embe", "layers", "layers.", "layers.3", "layers.1.", "layers.2-1", "layers.0-3", "layers.-1", "layers.0x1",
        "layers.0.experts", "layers.1.expert", "layers.*.bias", "router", "head.weight"}) {
    const std::string error = test::error_of<Error>([&] { frozen_names({"norm", name}); });
    EXPECT_THAT(error, HasSubstr(fmt::format("\"{}\" is not a parameter of this model", name)));
    EXPECT_THAT(error, HasSubstr("embedding, layers.0-2.attention.norm, layers.0-2.attention.qkv, "));
    EXPECT_THAT(error, HasSubstr("layers.0.ffn.gate_up, layers.0.ffn.down, layers.1-2.router, layers.1-2.experts."));
    EXPECT_THAT(error, HasSubstr(", norm, head"));
  }
  EXPECT_THAT(test::error_of<Error>([] {
                frozen_names({"embed", "layers.*", "norm", "head"});
              }),
              HasSubstr("nothing is left to train"));
}

struct Freezing {
  MethodCase method;
  std::vector<std::string> names;
  DType dtype = DType::f32;
  bool tied = false, recompute = false;
};

/// Two steps, each of two microbatches.
struct OneStep {
  OneStep(const Freezing& test, bool frozen, int64_t microbatches = 2)
      : machine("cpu"), batch(clear_choices_batch(test.method.config.vocab_size)) {
    ModelConfig config = test.method.config;
    config.tie_word_embeddings = test.tied;
    StepConfig step = test.method.step(batch, microbatches, test.dtype);
    step.recompute = test.recompute;
    step.balance.bias_rate = test.method.config.has_router_bias() ? 0.01f : 0;
    if (frozen) step.freeze = test.names;
    under = std::make_unique<StepUnderTest>(config, step, *machine.device, *machine.backend);
    spread_zero_parameters(under->run, *machine.device);
    under->run.parameters_from_masters();
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

class FrozenSteps : public testing::TestWithParam<Freezing> {};

TEST_P(FrozenSteps, GradientsOfTheOthersAreThoseOfTheWholeModelBitForBit) {
  for (const int64_t microbatches : {1, 2}) {
    OneStep whole(GetParam(), false, microbatches), part(GetParam(), true, microbatches);
    double squares = 0;
    for (size_t p = 0; p < part.step().table().size(); ++p) {
      const Parameter& parameter = part.step().table()[p];
      const View& gradient = part.step().gradients()[p];
      ASSERT_EQ(static_cast<bool>(gradient), parameter.trained()) << parameter.name;
      if (!gradient) continue;
      EXPECT_EQ(part.bytes(gradient), whole.bytes(whole.step().gradients()[p])) << parameter.name;
      for (const float value : download_floats(*part.machine.device, gradient)) squares += double{value} * value;
    }
    const StepReport report = part.step().update(1, 0.01), of_whole = whole.step().update(1, 0.01);
    EXPECT_EQ(report.loss, of_whole.loss);
    EXPECT_EQ(report.losses, of_whole.losses);
    EXPECT_NEAR(report.gradient_norm, std::sqrt(squares), 1e-5 * std::sqrt(squares));
    EXPECT_LT(report.gradient_norm, of_whole.gradient_norm) << "of the trained parameters alone";
  }
}

TEST_P(FrozenSteps, MoveEveryTrainedParameterAndNoOther) {
  OneStep run(GetParam(), true);
  std::vector<std::vector<char>> before;
  for (const View& view : run.step().parameters()) before.push_back(run.bytes(view));
  for (int64_t step = 1; step <= 2; ++step) {
    if (step > 1) run.under->accumulate(run.batch, 2);
    run.step().update(step, 0.05);
  }
  size_t frozen = 0;
  for (size_t p = 0; p < before.size(); ++p) {
    const Parameter& parameter = run.step().table()[p];
    const bool moved = run.bytes(run.step().parameters()[p]) != before[p];
    EXPECT_EQ(moved, !parameter.frozen && !parameter.is_table()) << parameter.name;
    for (const Optimizer::Slot& slot : run.step().optimizer().slots()) {
      EXPECT_EQ(static_cast<bool>(slot.views[p]), parameter.trained()) << slot.name << " of " << parameter.name;
    }
    if (parameter.frozen) {
      EXPECT_EQ(run.step().masters()[p].data, run.step().parameters()[p].data) << parameter.name;
      ++frozen;
    }
  }
  EXPECT_GT(frozen, 0u);
}

std::vector<Freezing> freezings() {
  const MethodCase plain = method_case("deepseekmoe");
  std::vector<Freezing> tests{
      {plain, {"embed"}},
      {plain, {"head", "norm"}},
      {plain, {"layers.*.attention", "layers.0.ffn"}},
      {plain, {"layers.*.experts", "layers.*.shared", "layers.*.router"}},
      {plain, {"layers.1"}},
      {plain, {"embed", "layers.*"}},
      {plain, {"embed", "layers.0"}},
      {plain, {"embed", "layers.0-1"}},
      {.method = plain, .names = {"embed", "layers.0-1", "layers.2.attention"}, .dtype = DType::bf16},
      {.method = plain, .names = {"embed"}, .tied = true},
      {.method = plain, .names = {"embed", "layers.0-1", "norm"}, .recompute = true},
      {.method = plain, .names = {"embed", "layers.2.experts", "norm"}, .dtype = DType::bf16},
      {method_case("noisy_topk"), {"layers.*.router.noise"}},
      {method_case("stable_moe"), {"layers.*.router.light_embedding"}},
      {method_case("stable_moe"), {"layers.*.router.light_centroids"}},
      {method_case("hash"), {"layers.*.router", "embed"}},
      {method_case("loss_free"), {"layers.1.router"}},
      {method_case("loss_free"), {"layers.*.router.bias", "norm"}},
  };
  return tests;
}

INSTANTIATE_TEST_SUITE_P(All, FrozenSteps, testing::ValuesIn(freezings()), [](const auto& test) {
  std::string name = test.param.method.name + "_" + std::to_string(test.index);
  return name;
});

TEST(Freeze, LayersBelowTheFirstGradientHaveNoBackwardPass) {
  const ModelConfig config = tiny_config();
  const Batch batch = clear_choices_batch(config.vocab_size);
  const auto backward_passes = [&](const std::vector<std::string>& names) {
    const Machine machine("cpu");
    RecordingBackend recorder(*machine.backend, *machine.device);
    StepConfig step = step_config_for(batch, 1, DType::f32);
    step.freeze = names;
    StepUnderTest under(config, step, *machine.device, recorder);
    under.accumulate(batch, 1);
    return recorder.records().contains("attention_backward") ? recorder.records().at("attention_backward").calls : 0;
  };
  EXPECT_EQ(backward_passes({}), 3);
  EXPECT_EQ(backward_passes({"layers.0"}), 3) << "the embedding trains";
  EXPECT_EQ(backward_passes({"embed"}), 3);
  EXPECT_EQ(backward_passes({"embed", "layers.0"}), 2);
  EXPECT_EQ(backward_passes({"embed", "layers.0-1", "layers.2.experts"}), 1) << "the attention before these experts";
  EXPECT_EQ(backward_passes({"embed", "layers.*"}), 0);

  StepConfig step = step_config_for(batch, 1, DType::f32);
  step.freeze = {"layers.*"};
  const MemoryPlan all = plan_training(config, step);
  step.freeze = {"embed", "layers.*"};
  EXPECT_LT(plan_training(config, step).saved, all.saved / 2) << "activations for the backward pass";
}

TEST(Freeze, ThePlanHoldsNoGradientAndNoOptimiserStateOfFrozenParameters) {
  const ModelConfig config = tiny_config();
  const Batch batch = clear_choices_batch(config.vocab_size);
  StepConfig step = step_config_for(batch, 2, DType::bf16);
  const MemoryPlan whole = plan_training(config, step);
  step.freeze = {"layers.*.experts"};
  const MemoryPlan part = plan_training(config, step);
  int64_t experts = 0, tensors = 0;
  for (const Parameter& parameter : training_table(config, step.freeze)) {
    if (parameter.frozen) experts += parameter.shape.elements(), ++tensors;
  }
  const int64_t rounding = tensors * static_cast<int64_t>(Arena::kAlignment);  // where buffers begin
  EXPECT_NEAR(static_cast<double>(whole.gradients - part.gradients), static_cast<double>(4 * experts),
              static_cast<double>(rounding));
  EXPECT_NEAR(static_cast<double>(whole.optimizer - part.optimizer), static_cast<double>(12 * experts),
              static_cast<double>(3 * rounding));
  EXPECT_EQ(part.parameters, whole.parameters);
  EXPECT_LT(part.microbatch_flops, whole.microbatch_flops);
  EXPECT_THAT(plan_text(config, step, part), HasSubstr(fmt::format("frozen {:>38}", experts)));
}

}  // namespace
}  // namespace moe
