// Against tests/golden, written by an independent PyTorch program in double precision.

#include <gtest/gtest.h>

#include <cmath>

#include "backend/cpu/cpu_backend.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/weights.h"
#include "formats/safetensors.h"
#include "infer/forward.h"
#include "tests/support/tiny_model.h"

namespace moe {
namespace {

const fs::path kGolden = fs::path(MOE_SOURCE_DIR) / "tests/golden";
// The independent program's own distance between float32 and float64 is stored beside the values; ours may be this many
// times as large (another order of sums, not another formula).
constexpr double kRoundingFactor = 12;
constexpr double kLeastTolerance = 2e-6;

std::vector<int32_t> integers(const SafetensorsFile& file, const std::string& name, int64_t begin = 0, int64_t count = -1) {
  const SafetensorsTensor* tensor = file.find(name);
  if (tensor == nullptr) fail("golden tensor {} is missing", name);
  const auto* data = reinterpret_cast<const int32_t*>(tensor->data);
  return {data + begin, data + (count < 0 ? tensor->elements() : begin + count)};
}

// A batch from stored tokens, targets and segment starts (flat indices from `first` on).
Batch golden_batch(const SafetensorsFile& file, int64_t rows, int64_t length, int64_t first = 0) {
  const int64_t count = rows * length;
  Batch batch{.rows = rows,
              .tokens = integers(file, "input.tokens", first, count),
              .targets = integers(file, "input.targets", first, count),
              .positions = {},
              .segment_start = integers(file, "input.segment_start", first, count),
              .segment_id = {},
              .segment_tokens = {},
              .domain = std::vector<int32_t>(static_cast<size_t>(count), 0)};
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    const int32_t start = batch.segment_start[i];
    batch.num_targets += batch.targets[i] >= 0 ? 1 : 0;
    batch.positions.push_back(start < 0 ? 0 : static_cast<int32_t>(i) - start);
    if (start >= 0 && start == static_cast<int32_t>(i)) batch.segment_tokens.push_back(0);
    batch.segment_id.push_back(start < 0 ? -1 : static_cast<int32_t>(batch.segment_tokens.size()) - 1);
    if (start < 0) continue;
    ++batch.segment_tokens.back();
    ++batch.num_tokens;
  }
  return batch;
}

double relative_error(const float* found, const SafetensorsTensor& expected) {
  const auto* reference = reinterpret_cast<const float*>(expected.data);
  double largest_difference = 0;
  double largest = 0;
  for (int64_t i = 0; i < expected.elements(); ++i) {
    const double difference = std::fabs(static_cast<double>(found[i]) - static_cast<double>(reference[i]));
    if (!(difference <= largest_difference)) largest_difference = difference;  // NaN stays
    largest = std::max(largest, std::fabs(static_cast<double>(reference[i])));
  }
  return largest > 0 ? largest_difference / largest : largest_difference;
}

class Golden : public testing::TestWithParam<std::string> {
 protected:
  fs::path folder() const { return kGolden / GetParam(); }
  double tolerance(const Json& golden, const std::string& key) const {
    const Json& deviations = golden.at("float32_deviation");
    const double deviation = deviations.contains(key) ? deviations.at(key).get<double>() : 0.0;
    return std::max(kLeastTolerance, kRoundingFactor * deviation);
  }

  ThreadPool pool_{2};
  std::unique_ptr<Device> device_ = make_cpu_device();
  std::unique_ptr<Backend> backend_ = make_cpu_backend(pool_);
};

TEST_P(Golden, LogitsAgree) {
  const SafetensorsFile file(folder() / "golden.safetensors");
  const auto& shape = file.find("input.tokens")->shape;
  const Batch batch = golden_batch(file, shape[0], shape[1]);
  const LoadedModel loaded(folder(), DType::f32, *device_);
  const auto count = static_cast<int64_t>(batch.tokens.size());
  Scorer scorer({loaded.model(), DType::f32, *device_, *backend_}, count);
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
      if (batch.segment_id[t] < 0) std::fill_n(compared.begin() + static_cast<int64_t>(t) * vocabulary, vocabulary, 0.0f);
    }
  }
  EXPECT_LT(relative_error(compared.data(), *expected), 5e-6);
}

TEST_P(Golden, LossesAndGradientsAgree) {
  const SafetensorsFile file(folder() / "golden.safetensors");
  const Json golden = read_json(folder() / "golden.json");
  if (!golden.contains("configurations")) GTEST_SKIP() << "this case has logits only";
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
                    .scope = *balance_scope_from(wanted.at("scope").get<std::string>())};
    TrainingStep run(config, step, plan_training(config, step), *device_, *backend_);
    run.initialize(1, 0.1);
    load_weights(folder(), config, run.table(), run.parameters(), *device_);
    run.accumulate([&](int64_t index) {
      int64_t first = 0;
      for (int64_t i = 0; i < index; ++i) first += split[static_cast<size_t>(i)];
      return batch_rows(batch, first, split[static_cast<size_t>(index)]);
    });
    int compared = 0;
    for (const HfTensor& tensor : hf_tensors(config, run.table())) {
      const SafetensorsTensor* expected = file.find("grad." + label + "." + tensor.name);
      if (expected == nullptr) continue;
      ++compared;
      const float* found = run.gradients()[tensor.parameter].as<float>() + tensor.offset;
      EXPECT_LT(relative_error(found, *expected), 3e-5) << tensor.name;
    }
    EXPECT_TRUE(compared > 0 || config.n_routed_experts == 0);
    const StepReport report = run.update(1, 0.0);
    EXPECT_NEAR(report.loss, golden.at("cross_entropy").get<double>(), 2e-6);
    const double norm = wanted.at("grad_norm");
    EXPECT_NEAR(report.gradient_norm, norm, 1e-5 * norm);
    const Json& layers = wanted.at("layers");
    const size_t experts = static_cast<size_t>(config.n_routed_experts);
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      const double expert = layers[layer].at("expert");
      const double device = layers[layer].at("device");
      EXPECT_NEAR(report.expert_loss[layer], expert, 1e-5 * std::fabs(expert)) << "layer " << layer;
      EXPECT_NEAR(report.device_loss[layer], device, 1e-5 * std::fabs(device)) << "layer " << layer;
      const std::vector<int32_t> counts = layers[layer].at("counts");
      EXPECT_EQ(counts, std::vector<int32_t>(report.counts.begin() + static_cast<int64_t>(layer * experts),
                                             report.counts.begin() + static_cast<int64_t>((layer + 1) * experts)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden, testing::Values("moe_basic", "moe_gqa_norm", "dense", "moe_k1", "long_row"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace moe
