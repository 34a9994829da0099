// Gradients of adapters: against central differences on the oracle, and against a PyTorch program.

#include <cmath>
#include <optional>
#include <ostream>
#include <vector>

#include <gtest/gtest.h>

#include "checkpoint/hf_config.h"
#include "checkpoint/hf_names.h"
#include "checkpoint/weights.h"
#include "infer/loaded_model.h"
#include "infer/scorer.h"
#include "tests/oracle/oracle.h"
#include "tests/support/adapters.h"
#include "tests/support/golden.h"
#include "tests/support/host_device.h"
#include "tests/support/machines.h"
#include "tests/support/methods.h"

namespace moe {
namespace {

struct GradientCase {
  const char* name;
  LoraConfig lora;
  ModelConfig config = tiny_config();
  BalanceScope scope = BalanceScope::sequence;
  bool recompute = false;
  Rebuild rebuild = Rebuild::nothing;
};
void PrintTo(const GradientCase& test, std::ostream* out) { *out << test.name; }

class AdapterGradient : public testing::TestWithParam<GradientCase> {};

TEST_P(AdapterGradient, EqualsCentralDifferences) {
  const GradientCase& test = GetParam();
  const ModelConfig config = adapted(test.config, test.lora);
  const Batch batch = packed_batch({{7, 4}, {11}, {3, 1, 5}, {9}}, 12, config.vocab_size, 5);
  StepConfig step = step_config_for(batch, 2, DType::f64);
  step.balance = {.alpha_expert = 0.3f, .alpha_device = 0.2f, .devices = 3, .scope = test.scope};
  step.recompute = test.recompute;
  step.rebuild = test.rebuild;
  step.lora = test.lora;
  step.seed = 3;
  step.logits_per_chunk = 64 * config.vocab_size / 2;
  HostDevice device;
  const auto oracle = make_oracle();
  StepUnderTest under(config, step, device, *oracle);
  spread_zero_parameters(under.run, device);
  const auto loss_and_gradients = [&] {
    under.accumulate(batch, 2);
    const StepReport report = under.run.update(1, 0.0);
    double total = report.loss;
    for (const double loss : report.losses) total += loss;
    return total;
  };
  loss_and_gradients();
  // All of them before any weight is moved: the buffers then have the gradients at the moved weight.
  std::vector<std::vector<double>> gradients;
  for (const View& view : under.run.gradients()) {
    gradients.emplace_back(view.as<double>(), view.as<double>() + (view ? view.elements() : 0));
  }
  const Random random(3, 3);
  const double delta = 1e-5;
  uint64_t draw = 0;
  int tensors = 0;
  for (size_t p = 0; p < under.run.table().size(); ++p) {
    const Parameter& parameter = under.run.table()[p];
    const std::vector<double>& found = gradients[p];
    ASSERT_EQ(!found.empty(), parameter.adapter != AdapterPart::none) << parameter.name;
    if (found.empty()) continue;
    ++tensors;
    for (int probe = 0; probe < 4; ++probe) {
      const uint64_t i = random.below(draw++, found.size());
      double& weight = under.run.parameters()[p].as<double>()[i];
      const double original = weight;
      weight = original + delta;
      const double above = loss_and_gradients();
      weight = original - delta;
      const double below = loss_and_gradients();
      weight = original;
      const double numeric = (above - below) / (2 * delta);
      EXPECT_NEAR(found[i], numeric, 1e-8 + 1e-6 * std::fabs(numeric)) << parameter.name << " element " << i;
    }
  }
  EXPECT_GT(tensors, 0);
}

std::vector<GradientCase> gradient_cases() {
  LoraConfig dropping = lora_of(kAllTargets);
  dropping.dropout = 0.3;
  LoraConfig plain = lora_of(kAllTargets);
  plain.alpha = 3;  // of rank 3: no factor
  ModelConfig biased = tiny_config();
  biased.qkv_bias = true;
  biased.qk_norm = QkNorm::each_head;
  ModelConfig gated = tiny_config();
  gated.gated_shared_expert = true;
  return {{"all", lora_of(kAllTargets)},
          {"factor_one", plain},
          {"attention", lora_of({"attention"}), biased},
          {"experts", lora_of({"experts"})},
          {"shared", lora_of({"shared"}), gated},
          {"dense", lora_of({"dense"}), tiny_config(), BalanceScope::sequence, false, Rebuild::all},
          {"head", lora_of({"head"})},
          {"recompute", lora_of(kAllTargets), tiny_config(), BalanceScope::sequence, true},
          {"dropout", dropping},
          {"dropout_recompute_step_scope", dropping, tiny_config(), BalanceScope::step, true}};
}
INSTANTIATE_TEST_SUITE_P(TinyModels, AdapterGradient, testing::ValuesIn(gradient_cases()),
                         [](const auto& test) { return std::string(test.param.name); });

/// Adapters by a PyTorch program, beside a model in f32 or in blocks.
struct GoldenCase {
  std::string machine;
  const char *adapter, *model;
  DType base;
};
void PrintTo(const GoldenCase& test, std::ostream* out) { *out << test.machine << " " << test.adapter; }

class GoldenAdapters : public testing::TestWithParam<GoldenCase> {
 protected:
  void SetUp() override {
    MOE_SKIP_WITHOUT(GetParam().machine);
    machine_.emplace(GetParam().machine);
  }
  static fs::path model() { return golden_folder() / GetParam().model; }
  static fs::path adapter() { return golden_folder() / GetParam().adapter; }
  Machine& machine() { return *machine_; }

 private:
  std::optional<Machine> machine_;
};

TEST_P(GoldenAdapters, LogitsAgree) {
  const SafetensorsFile file(adapter() / "golden.safetensors");
  const auto& shape = file.find("input.tokens")->shape;
  const Batch batch = golden_batch(file, shape[0], shape[1]);
  const LoadedModel loaded(model(), GetParam().base, *machine().device, {}, {{adapter()}});
  const auto count = static_cast<int64_t>(batch.tokens.size()), vocabulary = loaded.config().vocab_size;
  Scorer scorer({loaded.model(), DType::f32, *machine().device, *machine().backend}, count, shape[1]);
  std::vector<float> all(static_cast<size_t>(count * vocabulary));
  scorer.logits(batch, [&](int64_t first, int64_t rows, const float* values) {
    std::copy(values, values + rows * vocabulary, all.begin() + first * vocabulary);
  });
  for (size_t t = 0; t < batch.segment_id.size(); ++t) {
    if (batch.segment_id[t] < 0) std::fill_n(all.begin() + static_cast<int64_t>(t) * vocabulary, vocabulary, 0.0f);
  }
  EXPECT_LT(relative_error(all.data(), *file.find("logits")), 5e-6);
}

TEST_P(GoldenAdapters, LossAndGradientsAgree) {
  const SafetensorsFile file(adapter() / "golden.safetensors"), given(adapter() / "adapter_model.safetensors");
  const Json golden = read_json(adapter() / "golden.json");
  const auto& shape = file.find("input.tokens")->shape;
  const Batch batch = golden_batch(file, shape[0], shape[1]);
  const ModelConfig base = read_hf_config(model());
  const LoraConfig lora{.rank = golden.at("rank"),
                        .alpha = golden.at("alpha"),
                        .targets = kAllTargets,
                        .rank_experts = golden.at("rank_experts"),
                        .base = GetParam().base};
  const ModelConfig config = adapted(base, lora);
  const std::vector<int64_t> split = golden.at("microbatch_rows");
  StepConfig step = step_config_for(batch, static_cast<int64_t>(split.size()));
  step.lora = lora;
  step.parameters = TrainedPart::lora;
  step.balance = {
      .alpha_expert = golden.at("alpha1"), .alpha_device = golden.at("alpha2"), .devices = golden.at("devices")};
  Device& device = *machine().device;
  TrainingStep run(config, step, plan_training(config, step), device, *machine().backend);
  run.initialize(1, 0.1);
  load_weights(model(), base, parameter_table(base), base_views(run.table(), run.parameters()), device);
  const auto part_of = [](const View& view, const HfTensor& tensor) {
    return view.reshaped({view.elements()}).rows(tensor.offset, tensor.elements());
  };
  const std::string prefix = "base_model.model.";
  for (const HfTensor& tensor : hf_tensors(config, run.table())) {
    if (run.table()[tensor.parameter].adapter == AdapterPart::none) continue;
    const SafetensorsTensor* const value = given.find(prefix + tensor.name);
    ASSERT_NE(value, nullptr) << tensor.name;
    device.upload(part_of(run.parameters()[tensor.parameter], tensor).data, value->data, value->bytes);
  }
  run.accumulate([&](int64_t index) { return batch_rows(batch, index * split[0], split[static_cast<size_t>(index)]); });
  size_t compared = 0;
  for (const HfTensor& tensor : hf_tensors(config, run.table())) {
    const SafetensorsTensor* const expected = file.find("grad." + prefix + tensor.name);
    if (expected == nullptr) continue;
    ++compared;
    const std::vector<float> found = download_floats(device, run.gradients()[tensor.parameter]);
    EXPECT_LT(relative_error(found.data() + tensor.offset, *expected), 3e-5) << tensor.name;
  }
  EXPECT_EQ(compared, given.tensors().size());
  const StepReport report = run.update(1, 0.0);
  EXPECT_NEAR(report.loss, golden.at("cross_entropy").get<double>(), 2e-6);
  const double norm = golden.at("grad_norm");
  EXPECT_NEAR(report.gradient_norm, norm, 1e-5 * norm);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenAdapters,
                         testing::Values(GoldenCase{"cpu", "moe_basic_lora", "moe_basic", DType::f32},
                                         GoldenCase{"cuda", "moe_basic_lora", "moe_basic", DType::f32},
                                         GoldenCase{"cpu", "nf4_lora", "nf4_lora/base", DType::nf4}),
                         [](const auto& test) { return test.param.machine + "_" + test.param.adapter; });

}  // namespace
}  // namespace moe
