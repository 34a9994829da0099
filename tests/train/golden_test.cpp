// Against tests/golden, written by an independent PyTorch program in double precision.

#include "tests/support/golden.h"

#include <cmath>

#include <gtest/gtest.h>

#include "checkpoint/hf_config.h"
#include "checkpoint/weights.h"
#include "infer/loaded_model.h"
#include "infer/scorer.h"
#include "tests/support/machines.h"

namespace moe {
namespace {

/// A folder of tests/golden and a kind of machine.
class Golden : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  void SetUp() override {
    MOE_SKIP_WITHOUT(std::get<1>(GetParam()));
    machine_.emplace(std::get<1>(GetParam()));
  }
  fs::path folder() const { return golden_folder() / std::get<0>(GetParam()); }
  Device& device() { return *machine_->device; }
  Backend& backend() { return *machine_->backend; }

 private:
  std::optional<Machine> machine_;
};

TEST_P(Golden, LogitsAgree) {
  const SafetensorsFile file(folder() / "golden.safetensors");
  const auto& shape = file.find("input.tokens")->shape;
  const Batch batch = golden_batch(file, shape[0], shape[1]);
  const LoadedModel loaded(folder(), DType::f32, device());
  const auto count = static_cast<int64_t>(batch.tokens.size());
  Scorer scorer({loaded.model(), DType::f32, device(), backend()}, count, shape[1]);
  const int64_t vocabulary = loaded.config().vocab_size;
  std::vector<float> all(static_cast<size_t>(count * vocabulary));
  scorer.logits(batch, [&](int64_t first, int64_t rows, const float* values) {
    std::copy(values, values + rows * vocabulary, all.begin() + first * vocabulary);
  });
  const SafetensorsTensor* expected = file.find("logits");
  std::vector<float> compared;
  if (file.find("logits.rows") != nullptr) {
    for (const int32_t row : integers(file, "logits.rows")) {
      compared.insert(compared.end(), all.begin() + row * vocabulary, all.begin() + (row + 1) * vocabulary);
    }
  } else {
    compared = all;
    for (size_t t = 0; t < batch.segment_id.size(); ++t) {
      if (batch.segment_id[t] < 0)
        std::fill_n(compared.begin() + static_cast<int64_t>(t) * vocabulary, vocabulary, 0.0f);
    }
  }
  EXPECT_LT(relative_error(compared.data(), *expected), 5e-6);
}

TEST_P(Golden, LossesAndGradientsAgree) {
  const SafetensorsFile file(folder() / "golden.safetensors");
  const Json golden = read_json(folder() / "golden.json");
  const auto& shape = file.find("input.tokens")->shape;
  const Batch batch = golden_batch(file, shape[0], shape[1]);
  const ModelConfig config = read_hf_config(folder());
  for (const Json& wanted : golden.at("configurations")) {
    const std::string label = wanted.at("name");
    SCOPED_TRACE(label);
    const std::vector<int64_t> split = wanted.at("microbatch_rows");
    StepConfig step = step_config_for(batch, 1);
    step.microbatches = static_cast<int64_t>(split.size());
    step.balance = {.alpha_expert = wanted.at("alpha1"),
                    .alpha_device = wanted.at("alpha2"),
                    .devices = wanted.at("devices"),
                    .scope = *balance_scope_from(wanted.at("scope").get<std::string>()),
                    .alpha_communication = wanted.at("alpha3"),
                    .first_choice = wanted.at("first_choice"),
                    .z_loss = wanted.at("z_loss"),
                    .importance = wanted.at("importance"),
                    .load = wanted.at("load"),
                    .stable_balance = wanted.at("stable_balance"),
                    .stable_distillation = wanted.at("stable_distill")};
    step.seed = wanted.at("seed");
    const int64_t number = wanted.at("step");
    step.second_stage = wanted.at("stage") == 1 ? number + 2 : 0;  // a plan is of steps from 1 on
    TrainingStep run(config, step, plan_training(config, step), device(), backend());
    run.initialize(1, 0.1);
    load_weights(folder(), config, run.table(), run.parameters(), device());
    run.accumulate(
        [&](int64_t index) {
          int64_t first = 0;
          for (int64_t i = 0; i < index; ++i) first += split[static_cast<size_t>(i)];
          return batch_rows(batch, first, split[static_cast<size_t>(index)]);
        },
        number);
    int compared = 0;
    for (const HfTensor& tensor : hf_tensors(config, run.table())) {
      const SafetensorsTensor* expected = file.find("grad." + label + "." + tensor.name);
      if (expected == nullptr) continue;
      ++compared;
      ASSERT_TRUE(run.gradients()[tensor.parameter]) << tensor.name << " is not trained";
      const std::vector<float> found = download_floats(device(), run.gradients()[tensor.parameter]);
      EXPECT_LT(relative_error(found.data() + tensor.offset, *expected), 3e-5) << tensor.name;
    }
    EXPECT_TRUE(compared > 0 || config.n_routed_experts == 0 || config.routing == RoutingMethod::hash);
    const StepReport report = run.update(1, 0.0);
    EXPECT_NEAR(report.loss, wanted.at("cross_entropy").get<double>(), 2e-6);
    const double norm = wanted.at("grad_norm");
    EXPECT_NEAR(report.gradient_norm, norm, 1e-5 * norm);
    const Json& layers = wanted.at("layers");
    const size_t experts = static_cast<size_t>(config.n_routed_experts);
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      for (int64_t kind = 0; kind < kRouterLosses; ++kind) {
        const auto loss = static_cast<RouterLoss>(kind);
        const double value = layers[layer].at(name(loss));
        EXPECT_NEAR(report.router_loss(loss, static_cast<int64_t>(layer)), value, 1e-5 * std::fabs(value))
            << name(loss) << ", layer " << layer;
      }
      EXPECT_EQ(report.dropped[layer], layers[layer].at("dropped").get<int32_t>());
      const std::vector<int32_t> counts = layers[layer].at("counts");
      EXPECT_EQ(counts, std::vector<int32_t>(report.counts.begin() + static_cast<int64_t>(layer * experts),
                                             report.counts.begin() + static_cast<int64_t>((layer + 1) * experts)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden,
                         testing::Combine(testing::Values("moe_basic", "moe_gqa_norm", "dense", "moe_k1", "long_row",
                                                          "mixture", "switch", "switch_original", "gshard_original",
                                                          "st_moe", "noisy_topk", "noisy_all", "hash", "expert_choice",
                                                          "stable", "mixtral", "device_limited", "loss_free_sigmoid",
                                                          "loss_free_softmax"),
                                          testing::ValuesIn(machine_kinds())),
                         [](const auto& test) { return std::get<0>(test.param) + "_on_" + std::get<1>(test.param); });

}  // namespace
}  // namespace moe
