// What every optimiser keeps to, and what is Muon's own.

#include "train/optimizer.h"

#include <cmath>

#include <gmock/gmock.h>

#include "tests/support/machines.h"
#include "tests/support/methods.h"
#include "train/plan_text.h"
#include "train/run_keys.h"

namespace moe {
namespace {

using testing::HasSubstr;

std::vector<char> bytes_of_view(Device& device, const View& view) {
  std::vector<char> values(view.bytes());
  device.download(values.data(), view.data, values.size());
  return values;
}

/// A step of the tiny model with two microbatches, after accumulate().
struct OneStep {
  OneStep(const std::string& kind, DType dtype, int threads = 2, const std::string& method = "deepseekmoe",
          const ModelConfig* other = nullptr, const std::function<void(OptimizerConfig&)>& change = {})
      : machine("cpu", threads) {
    const MethodCase test = method_case(method);
    const ModelConfig config = other != nullptr ? *other : test.config;
    batch = clear_choices_batch(config.vocab_size);
    StepConfig step = test.step(batch, 2, dtype);
    step.optimizer.kind = kind;
    if (change) change(step.optimizer);
    under = std::make_unique<StepUnderTest>(config, step, *machine.device, *machine.backend);
    spread_zero_parameters(under->run, *machine.device);
    under->run.parameters_from_masters();
    under->accumulate(batch, 2);
  }
  TrainingStep& step() { return under->run; }
  std::vector<std::vector<char>> parameters() {
    std::vector<std::vector<char>> all;
    for (const View& view : step().parameters()) all.push_back(bytes_of_view(*machine.device, view));
    return all;
  }
  size_t index(std::string_view name) {
    for (size_t p = 0; p < step().table().size(); ++p) {
      if (step().table()[p].name == name) return p;
    }
    ADD_FAILURE() << name;
    return 0;
  }

  Machine machine;
  Batch batch;
  std::unique_ptr<StepUnderTest> under;
};

class EveryOptimizer : public testing::TestWithParam<const OptimizerMethod*> {};

TEST_P(EveryOptimizer, MovesEveryTrainedTensorAndRemembersNothingElse) {
  for (const char* method : {"deepseekmoe", "noisy_topk", "stable_moe", "dense"}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      OneStep run(GetParam()->name, dtype, 2, method);
      for (const Optimizer::Slot& slot : run.step().optimizer().slots()) {
        for (const View& view : slot.views) {
          if (!view) continue;
          EXPECT_EQ(bytes_of_view(*run.machine.device, view), std::vector<char>(view.bytes()));
        }
      }
      const auto before = run.parameters();
      run.step().update(1, 0.05);
      const auto after = run.parameters();
      for (size_t p = 0; p < before.size(); ++p) {
        EXPECT_EQ(after[p] != before[p], run.step().table()[p].trained())
            << method << " " << run.step().table()[p].name;
      }
    }
  }
}

TEST_P(EveryOptimizer, GivesTheSameBitsWithAnyNumberOfThreads) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    std::vector<std::vector<std::vector<char>>> results;
    for (const int threads : {1, 3}) {
      OneStep run(GetParam()->name, dtype, threads);
      run.step().update(1, 0.01);
      run.under->accumulate(run.batch, 2);
      run.step().update(2, 0.01);
      results.push_back(run.parameters());
    }
    EXPECT_EQ(results[0], results[1]);
  }
}

TEST_P(EveryOptimizer, LearnsABatchByHeart) {
  OneStep run(GetParam()->name, DType::f32);
  const double first = run.step().update(1, 0.01).loss;
  double last = first;
  for (int64_t step = 2; step <= 60; ++step) {
    run.under->accumulate(run.batch, 2);
    last = run.step().update(step, 0.01).loss;
  }
  EXPECT_LT(last, 0.4 * first);
}

// A key that an optimiser accepts has an effect, and a key that it refuses has none.
TEST_P(EveryOptimizer, UsesTheSettingsThatItListsAndNoOther) {
  const auto trained_with = [&](const std::function<void(OptimizerConfig&)>& change) {
    OneStep run(GetParam()->name, DType::f32, 2, "deepseekmoe", nullptr, change);
    run.step().update(1, 0.01);
    run.under->accumulate(run.batch, 2);
    run.step().update(2, 0.01);
    return run.parameters();
  };
  const auto plain = trained_with({});
  OptimizerConfig config;
  config.kind = GetParam()->name;
  int settings = 0;
  for (const KeyRow<OptimizerConfig>& row : optimizer_keys()) {
    if (row.kind != KeyKind::number) continue;
    ++settings;
    const double value = std::get<double>(row.get(config));
    bool has_effect = false;
    const double larger = value > 0 ? std::min(value * 1e3, row.high) : row.high;
    for (const double other : {value * 1e-3, larger}) {
      has_effect = has_effect || trained_with([&](OptimizerConfig& to) { row.set(to, other); }) != plain;
    }
    EXPECT_EQ(has_effect, row.used == nullptr || row.used(config)) << row.key;
  }
  EXPECT_GT(settings, 4);
}

TEST_P(EveryOptimizer, HasAKeyForEverySetting) {
  for (const OptimizerSetting setting : GetParam()->settings) {
    OptimizerConfig config;
    config.*setting = 0.25;
    int rows = 0;
    for (const KeyRow<OptimizerConfig>& row : optimizer_keys()) {
      rows += row.get(config) != row.get(OptimizerConfig()) ? 1 : 0;
    }
    EXPECT_EQ(rows, 1) << "a setting without a row in src/train/run_keys.cpp, or with the default 0.25";
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryOptimizer, testing::ValuesIn(kOptimizers),
                         [](const auto& test) { return std::string(test.param->name); });

// The change of a matrix that one step without decay makes, as a factor of the rate and Muon's scale.
std::vector<double> directions(const std::vector<float>& before, const std::vector<float>& after, double rate) {
  std::vector<double> values;
  for (size_t i = 0; i < before.size(); ++i) {
    values.push_back((static_cast<double>(before[i]) - static_cast<double>(after[i])) / rate);
  }
  return values;
}

ModelConfig wide_heads() {
  ModelConfig config = tiny_config();
  config.head_dim = 6;  // attention.output is wider than high
  return config;
}

/// The matrices of a parameter, each as (first element, rows).
std::vector<std::pair<int64_t, int64_t>> matrices_of(const Parameter& parameter) {
  const int64_t columns = parameter.shape[parameter.shape.rank() - 1];
  const int64_t stacked = parameter.shard_axis >= 0 ? parameter.shape[0] : 1;
  const int64_t height = parameter.shape.elements() / columns / stacked;
  std::vector<std::pair<int64_t, int64_t>> matrices;
  for (int64_t m = 0; m < stacked; ++m) {
    int64_t row = 0;
    for (const ParameterSlice& slice : parameter.slices) {
      matrices.emplace_back((m * height + row) * columns, slice.rows);
      row += slice.rows;
    }
    if (parameter.slices.empty()) matrices.emplace_back(m * height * columns, height);
  }
  return matrices;
}

TEST(Muon, StepsAreNearlyOrthogonalForEveryMatrixByItself) {
  const ModelConfig config = wide_heads();
  constexpr double kRate = 0.01;
  OneStep run("muon", DType::f32, 2, "deepseekmoe", &config);
  std::vector<std::vector<float>> before;
  for (const View& view : run.step().masters()) before.push_back(download_floats(*run.machine.device, view));
  StepReport report = run.step().update(1, kRate);
  ASSERT_GT(report.gradient_norm, 0);
  int checked = 0;
  for (size_t p = 0; p < before.size(); ++p) {
    const Parameter& parameter = run.step().table()[p];
    if (!run.step().optimizer().slot("momentum")[p]) continue;
    const auto after = download_floats(*run.machine.device, run.step().masters()[p]);
    const int64_t columns = parameter.shape[parameter.shape.rank() - 1];
    for (const auto& [begin, rows] : matrices_of(parameter)) {
      std::vector<float> kept(before[p].begin() + begin, before[p].begin() + begin + rows * columns);
      for (float& value : kept) value *= static_cast<float>(1 - kRate * 0.1);  // weight decay
      const std::vector<float> moved(after.begin() + begin, after.begin() + begin + rows * columns);
      const double scale = 0.2 * std::sqrt(static_cast<double>(std::max(rows, columns)));
      const std::vector<double> o = directions(kept, moved, kRate * scale);
      // Singular values end between 0.6 and 1.2, unless they were tiny; the mean of their squares is that of o.
      double squares = 0;
      for (const double value : o) squares += value * value;
      const double mean = squares / static_cast<double>(std::min(rows, columns));
      EXPECT_LT(mean, 1.5) << parameter.name;
      EXPECT_GT(mean, 0.05) << parameter.name;
      ++checked;
    }
  }
  EXPECT_EQ(checked, 3 * 4 + 3 + 2 * (3 * 6 + 3)) << "q, k, v, output; gate, up, down: dense, of each expert, shared";
}

TEST(Muon, AMatrixDoesNotDependOnItsNeighbours) {
  const auto changed = [](const char* name, int64_t begin, int64_t count) {
    std::vector<std::vector<float>> results;
    for (const float factor : {1.0f, -7.0f}) {
      OneStep run("muon", DType::f32);
      const size_t p = run.index(name);
      auto* gradient = run.step().gradients()[p].as<float>();
      for (int64_t i = 0; i < count; ++i) gradient[begin + i] *= factor;
      // The clip factor changes too, but a matrix is divided by its norm.
      const View& momentum = run.step().optimizer().slot("momentum")[p];
      EXPECT_TRUE(momentum);
      run.step().update(1, 0.01);
      results.push_back(download_floats(*run.machine.device, run.step().masters()[p]));
    }
    std::vector<size_t> moved;
    for (size_t i = 0; i < results[0].size(); ++i) {
      if (std::abs(results[0][i] - results[1][i]) > 1e-6f) moved.push_back(i);
    }
    EXPECT_FALSE(moved.empty());
    for (const size_t i : moved) {
      EXPECT_GE(static_cast<int64_t>(i), begin) << name;
      EXPECT_LT(static_cast<int64_t>(i), begin + count) << name;
    }
  };
  const ModelConfig config = tiny_config();
  const int64_t width = config.moe_intermediate_size, hidden = config.hidden_size;
  changed("layers.1.experts.down", 2 * hidden * width, hidden * width);               // expert 2
  changed("layers.1.experts.gate_up", 3 * 2 * width * hidden, width * hidden);        // gate of expert 3
  changed("layers.2.experts.gate_up", (2 * 5 + 1) * width * hidden, width * hidden);  // up of expert 5
  changed("layers.0.attention.qkv", 12 * hidden, 4 * hidden);                         // k
  changed("layers.0.ffn.gate_up", 0, config.intermediate_size * hidden);
}

TEST(Muon, RemembersOneTensorOfMatricesAndTwoOfOthers) {
  const ModelConfig config = tiny_config();
  const Batch batch = clear_choices_batch(config.vocab_size);
  StepConfig step = step_config_for(batch, 2);
  const MemoryPlan adamw = plan_training(config, step);
  step.optimizer.kind = "muon";
  const MemoryPlan muon = plan_training(config, step);
  int64_t saved = 0, tensors = 0;
  for (const Parameter& parameter : parameter_table(config)) {
    const bool hidden = parameter.layer >= 0 && parameter.is_matrix() && parameter.role != ParameterRole::router;
    if (hidden) saved += 4 * parameter.shape.elements(), ++tensors;
  }
  EXPECT_NEAR(static_cast<double>(adamw.optimizer - muon.optimizer), static_cast<double>(saved),
              static_cast<double>(static_cast<int64_t>(Arena::kAlignment) * tensors));
  EXPECT_EQ(adamw.optimizer_flops, 0);
  EXPECT_GT(muon.optimizer_flops, 0);
  EXPECT_EQ(adamw.microbatch_flops, muon.microbatch_flops);
  EXPECT_THAT(plan_text(config, step, muon), HasSubstr("the optimiser"));
}

}  // namespace
}  // namespace moe
