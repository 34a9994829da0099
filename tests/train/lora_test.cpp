// Adapters in a training step: what they change, what trains and what does not.

#include <algorithm>
#include <cmath>
#include <set>

#include <gmock/gmock.h>

#include "tests/support/adapters.h"
#include "tests/support/machines.h"
#include "tests/support/methods.h"
#include "tests/support/temporary_folder.h"
#include "train/freeze.h"

namespace moe {
namespace {

using testing::HasSubstr;

/// One step of the tiny model with adapters, on a machine.
struct AdaptedStep {
  AdaptedStep(const std::string& kind, const ModelConfig& config, StepConfig step, const Batch& of, int64_t parts,
              bool spread = true, int threads = 2)
      : machine(kind, threads), batch(of), microbatches(parts) {
    step.seed = 11;
    under = std::make_unique<StepUnderTest>(config, step, *machine.device, *machine.backend);
    if (spread) spread_zero_parameters(under->run, *machine.device);
    under->run.parameters_from_masters();
  }
  TrainingStep& run() { return under->run; }
  StepReport one(double rate = 0.01, int64_t number = 1) {
    under->accumulate(batch, microbatches);
    return run().update(number, rate);
  }
  std::vector<char> bytes(const View& view) {
    std::vector<char> values(view.bytes());
    machine.device->download(values.data(), view.data, values.size());
    return values;
  }
  std::vector<std::vector<char>> gradients() {
    std::vector<std::vector<char>> all;
    for (const View& view : run().gradients()) all.push_back(view ? bytes(view) : std::vector<char>());
    return all;
  }
  std::vector<std::vector<char>> parameters() {
    std::vector<std::vector<char>> all;
    for (const View& view : run().parameters()) all.push_back(bytes(view));
    return all;
  }

  Machine machine;
  Batch batch;
  int64_t microbatches;
  std::unique_ptr<StepUnderTest> under;
};

class AdapterMachines : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { MOE_SKIP_WITHOUT(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Machines, AdapterMachines, testing::ValuesIn(machine_kinds()),
                         [](const auto& test) { return test.param; });

TEST_P(AdapterMachines, AtTheBeginningTheyChangeNothing) {
  const Batch batch = clear_choices_batch(tiny_config().vocab_size);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const StepConfig step = step_config_for(batch, 2, dtype);
    AdaptedStep plain(GetParam(), tiny_config(), step, batch, 2, false);
    AdaptedStep with(GetParam(), adapted(tiny_config(), lora_of(kAllTargets, 8, 8)), step, batch, 2, false);
    const StepReport a = plain.one(), b = with.one();
    EXPECT_EQ(a.loss, b.loss) << name(dtype);
    EXPECT_EQ(a.losses, b.losses);
    EXPECT_EQ(a.counts, b.counts);
    EXPECT_GT(b.gradient_norm, 0);
  }
}

TEST_P(AdapterMachines, EveryAdapterOfTheTargetsMovesAndNothingElse) {
  const Batch batch = clear_choices_batch(tiny_config().vocab_size);
  std::vector<std::vector<std::string>> choices{kAllTargets};
  for (const std::string& target : kAllTargets) choices.push_back({target});
  for (const std::vector<std::string>& targets : choices) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const ModelConfig config = adapted(tiny_config(), lora_of(targets));
      AdaptedStep step(GetParam(), config, step_config_for(batch, 2, dtype), batch, 2, false);
      const auto before = step.parameters();
      step.one(0.05, 1);
      step.one(0.05, 2);
      const auto after = step.parameters();
      std::set<std::string> moved, expected;
      for (size_t p = 0; p < before.size(); ++p) {
        const Parameter& parameter = step.run().table()[p];
        if (before[p] != after[p]) moved.insert(parameter.name);
        const std::string target = lora_target(parameter);
        const bool trains = parameter.adapter != AdapterPart::none &&
                            std::find(targets.begin(), targets.end(), target) != targets.end();
        if (trains) expected.insert(parameter.name);
        EXPECT_EQ(static_cast<bool>(step.run().gradients()[p]), trains) << parameter.name;
        for (const Optimizer::Slot& slot : step.run().optimizer().slots()) {
          EXPECT_EQ(static_cast<bool>(slot.views[p]), trains) << slot.name << " of " << parameter.name;
        }
      }
      EXPECT_EQ(moved, expected);
      EXPECT_FALSE(expected.empty());
    }
  }
}

TEST_P(AdapterMachines, RecomputeRebuildAndThreadsGiveTheSameBits) {
  const Batch batch = clear_choices_batch(tiny_config().vocab_size);
  LoraConfig lora = lora_of(kAllTargets);
  lora.dropout = 0.2;
  const ModelConfig config = adapted(tiny_config(), lora);
  const auto gradients = [&](bool recompute, Rebuild rebuild, int threads) {
    StepConfig step = step_config_for(batch, 2);
    step.lora = lora;
    step.recompute = recompute;
    step.rebuild = rebuild;
    AdaptedStep run(GetParam(), config, step, batch, 2, true, threads);
    run.one(0);
    return run.gradients();
  };
  const auto expected = gradients(false, Rebuild::nothing, 2);
  EXPECT_EQ(gradients(true, Rebuild::nothing, 2), expected);
  EXPECT_EQ(gradients(false, Rebuild::norms, 2), expected);
  EXPECT_EQ(gradients(false, Rebuild::all, 2), expected);
  EXPECT_EQ(gradients(false, Rebuild::nothing, 1), expected);
}

TEST_P(AdapterMachines, DropoutDependsOnThePlaceInTheRunAlone) {
  const Batch batch = clear_choices_batch(tiny_config().vocab_size);
  LoraConfig lora = lora_of(kAllTargets);
  lora.dropout = 0.4;
  const auto loss = [&](double dropout, int64_t microbatches, int64_t number, int64_t chunk) {
    StepConfig step = step_config_for(batch, microbatches);
    step.lora = lora;
    step.lora.dropout = dropout;
    step.logits_per_chunk = chunk;
    AdaptedStep run(GetParam(), adapted(tiny_config(), lora), step, batch, microbatches);
    const int64_t rows = batch.rows / microbatches;
    run.run().accumulate([&](int64_t index) { return batch_rows(batch, index * rows, rows); }, number);
    return run.run().update(1, 0).loss;
  };
  const double once = loss(0.4, 2, 1, 1 << 20);
  EXPECT_EQ(loss(0.4, 2, 1, 1 << 20), once);
  EXPECT_NEAR(loss(0.4, 4, 1, 1 << 20), once, 1e-6) << "other microbatches";
  EXPECT_NEAR(loss(0.4, 1, 1, 23), once, 1e-6) << "other chunks of logits";
  EXPECT_GT(std::abs(loss(0.4, 2, 2, 1 << 20) - once), 1e-4) << "another step";
  EXPECT_GT(std::abs(loss(0, 2, 1, 1 << 20) - once), 1e-4) << "no dropout";
}

TEST_P(AdapterMachines, AStepIsThatOfTheCpu) {
  const Batch batch = clear_choices_batch(tiny_config().vocab_size);
  LoraConfig lora = lora_of(kAllTargets, 8, 8);
  lora.dropout = 0.2;
  const ModelConfig config = adapted(tiny_config(), lora);
  StepConfig step = step_config_for(batch, 2);
  step.lora = lora;
  AdaptedStep here(GetParam(), config, step, batch, 2), cpu("cpu", config, step, batch, 2, true, 1);
  const StepReport a = here.one(), b = cpu.one();
  EXPECT_NEAR(a.loss, b.loss, 1e-5);
  EXPECT_NEAR(a.gradient_norm, b.gradient_norm, 1e-4 * b.gradient_norm);
}

TEST(Adapters, PackedDocumentsGiveTheLossOfEachAlone) {
  const Machine machine("cpu");
  const ModelConfig config = adapted(tiny_config(), lora_of(kAllTargets));
  const auto loss = [&](const Batch& batch) {
    StepUnderTest under(config, step_config_for(batch, 1), *machine.device, *machine.backend);
    spread_zero_parameters(under.run, *machine.device);
    under.accumulate(batch, 1);
    return under.run.update(1, 0).loss * static_cast<double>(batch.num_targets);
  };
  const Batch packed = packed_batch({{5, 4, 3}}, 12, config.vocab_size, 5);
  double apart = 0;
  for (int document = 0, at = 0; document < 3; ++document) {
    const int length = document == 0 ? 5 : document == 1 ? 4 : 3;
    Batch one = packed_batch({{length}}, length, config.vocab_size, 5);
    for (int i = 0; i < length; ++i) one.tokens[static_cast<size_t>(i)] = packed.tokens[static_cast<size_t>(at + i)];
    for (int i = 0; i + 1 < length; ++i) one.targets[static_cast<size_t>(i)] = one.tokens[static_cast<size_t>(i + 1)];
    apart += loss(one);
    at += length;
  }
  EXPECT_NEAR(loss(packed), apart, 1e-5 * apart);
}

TEST(Adapters, ThePlanHoldsGradientsAndStateOfAdaptersAlone) {
  const ModelConfig config = adapted(tiny_config(), lora_of(kAllTargets));
  const Batch batch = clear_choices_batch(config.vocab_size);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const StepConfig step = step_config_for(batch, 2, dtype);
    const MemoryPlan plan = plan_training(config, step), whole = plan_training(tiny_config(), step);
    const std::vector<Parameter> table = training_table(config, std::vector<std::string>{});
    int64_t tensors = 0;
    for (const Parameter& parameter : table) tensors += parameter.trained() ? 1 : 0;
    const int64_t trained = trained_elements(table), rounding = tensors * static_cast<int64_t>(Arena::kAlignment);
    EXPECT_NEAR(static_cast<double>(plan.gradients), static_cast<double>(4 * trained), static_cast<double>(rounding));
    const int64_t kept = dtype == DType::bf16 ? 12 : 8;
    EXPECT_NEAR(static_cast<double>(plan.optimizer), static_cast<double>(kept * trained),
                static_cast<double>(3 * rounding));
    EXPECT_GT(plan.parameters, whole.parameters);
  }
}

TEST(Adapters, NoProductMakesTheGradientOfAFrozenMatrix) {
  ModelConfig config = tiny_config();  // so wide that adapters of rank 1 are little work
  config.hidden_size = 96;
  config.head_dim = 32;
  config.intermediate_size = config.moe_intermediate_size = 80;
  const Batch batch = clear_choices_batch(config.vocab_size);
  const StepConfig step = step_config_for(batch, 2);
  const int64_t whole = plan_training(config, step).microbatch_flops;
  EXPECT_LT(plan_training(adapted(config, lora_of(kAllTargets, 1, 1)), step).microbatch_flops, whole * 9 / 10);
}

/// One dense layer with adapters of rank r on attention: full training's products without the gradients of frozen
/// matrices and without that of the layer's input, which nobody below needs; and the adapters' own.
TEST(Adapters, NoProductMakesAGradientBelowTheLowestAdapter) {
  ModelConfig config = tiny_config();
  config.n_routed_experts = 0;
  config.num_hidden_layers = 1;
  const Batch batch = clear_choices_batch(config.vocab_size);
  const StepConfig step = step_config_for(batch, 1);
  constexpr int64_t kRank = 2;
  int64_t without = 0, adapters = 0;  // multiplications of a token
  for (const Parameter& parameter : parameter_table(config)) {
    if (!parameter.is_matrix() || parameter.role == ParameterRole::embedding) continue;
    const int64_t outputs = parameter.shape[0], inputs = parameter.shape[1], elements = outputs * inputs;
    without += elements;
    if (parameter.role == ParameterRole::attention_qkv) {
      without += elements;
      adapters += 3 * kRank * (3 * inputs + outputs);  // its A and B: forward twice, and gradients; but not of x
    } else if (parameter.role == ParameterRole::attention_output) {
      adapters += kRank * (4 * inputs + 3 * outputs);
    }
  }
  const int64_t whole = plan_training(config, step).microbatch_flops;
  EXPECT_EQ(plan_training(adapted(config, lora_of({"attention"}, kRank, kRank)), step).microbatch_flops,
            whole + 2 * step.microbatch_tokens * (adapters - without));
}

TEST(Adapters, NoOperationIsAsLargeAsAMatrixOfChanges) {
  ModelConfig config = tiny_config();
  config.hidden_size = 96;
  config.head_dim = 32;
  config.moe_intermediate_size = 80;
  config.adapters = adapters_of(config, lora_of({"experts"}, 2, 2));
  const Batch batch = packed_batch({{5}}, 5, config.vocab_size, 5);
  const MemoryPlan plan = plan_training(config, step_config_for(batch, 1));
  for (const auto* buffers : {&plan.scratch_at_peak, &plan.saved_at_peak}) {
    for (const Arena::Buffer& buffer : *buffers) {
      EXPECT_LT(buffer.bytes, static_cast<size_t>(4 * 6 * 80 * 96)) << buffer.name;
    }
  }
}

TEST(Adapters, TargetsThatAreUnknownOrStandForNothingAreRefused) {
  const auto refusal = [](ModelConfig config, std::vector<std::string> targets) {
    return test::error_of<Error>([&] { adapters_of(config, lora_of(std::move(targets))); });
  };
  EXPECT_THAT(refusal(tiny_config(), {"router"}),
              HasSubstr("\"router\" is not a target of adapters, expected attention, experts, shared, dense or head"));
  EXPECT_THAT(refusal(tiny_config(), {}), HasSubstr("no target is given"));
  ModelConfig dense = tiny_config();
  dense.n_routed_experts = 0;
  EXPECT_THAT(refusal(dense, {"attention", "experts"}),
              HasSubstr("\"experts\" stands for nothing in this model; it has "
                        "attention, dense or head"));
  ModelConfig tied = tiny_config();
  tied.tie_word_embeddings = true;
  EXPECT_THAT(refusal(tied, {"head"}), HasSubstr("whose head is the embedding"));
}

}  // namespace
}  // namespace moe
