// Ten optimizer steps against the independent PyTorch program: every folder tests/golden/ten_steps*.

#include <algorithm>
#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include "checkpoint/hf_config.h"
#include "checkpoint/weights.h"
#include "tests/support/golden.h"
#include "tests/support/machines.h"
#include "train/run_keys.h"
#include "train/schedule.h"

namespace moe {
namespace {

/// "ten_steps", "ten_steps_muon" and so on.
std::vector<std::string> golden_runs() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(golden_folder())) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("ten_steps")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// The file has every setting that its optimiser uses.
OptimizerConfig optimizer_of(const Json& golden) {
  OptimizerConfig config;
  config.kind = golden.at("optimizer");
  for (const KeyRow<OptimizerConfig>& row : optimizer_keys()) {
    const bool used = row.used == nullptr || row.used(config);
    const std::string name(row.leaf());
    if (row.kind == KeyKind::number && used) row.set(config, golden.at(name).get<double>());
  }
  return config;
}

TEST(TenSteps, HaveReferencesForTheOptimisersThatWeShip) {
  std::set<std::string> kinds;
  for (const std::string& name : golden_runs()) {
    kinds.insert(read_json(golden_folder() / name / "golden.json").at("optimizer").get<std::string>());
  }
  EXPECT_EQ(kinds.count("adamw") + kinds.count("muon"), 2u);
}

/// Machine and folder.
class TenSteps : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(TenSteps, LossesNormsRatesAndWeightsAgree) {
  const auto& [kind, name] = GetParam();
  MOE_SKIP_WITHOUT(kind);
  const fs::path folder = golden_folder() / name;
  const SafetensorsFile file(folder / "golden.safetensors");
  const Json golden = read_json(folder / "golden.json");
  const fs::path model = golden_folder() / golden.at("model").get<std::string>();
  const ModelConfig config = read_hf_config(model);
  const int64_t steps = golden.at("steps");
  const int64_t rows = golden.at("rows");
  const int64_t length = golden.at("row_length");
  const Json& loss = golden.at("loss");
  const std::vector<int64_t> split = loss.at("microbatch_rows");

  StepConfig step;
  step.sequence_length = length;
  step.microbatches = static_cast<int64_t>(split.size());
  step.microbatch_tokens = split[0] * length;
  step.balance = {.alpha_expert = loss.at("alpha1"),
                  .alpha_device = loss.at("alpha2"),
                  .devices = loss.at("devices"),
                  .scope = *balance_scope_from(loss.at("scope").get<std::string>())};
  step.optimizer = optimizer_of(golden);
  const Schedule schedule{.kind = ScheduleKind::step_decay,
                          .peak = golden.at("peak_lr"),
                          .steps = steps,
                          .warmup_steps = golden.at("warmup"),
                          .decay_factor = golden.at("decay_factor")};
  const Machine machine(kind);
  TrainingStep run(config, step, plan_training(config, step), *machine.device, *machine.backend);
  run.initialize(1, 0.1);
  load_weights(model, config, run.table(), run.parameters(), *machine.device);

  for (int64_t k = 1; k <= steps; ++k) {
    SCOPED_TRACE(k);
    const Json& expected = golden.at("log")[static_cast<size_t>(k - 1)];
    const Batch batch = golden_batch(file, rows, length, (k - 1) * rows * length);
    run.accumulate([&](int64_t index) { return batch_rows(batch, index * split[0], split[0]); });
    EXPECT_DOUBLE_EQ(schedule.rate(k), expected.at("lr").get<double>());
    const StepReport report = run.update(k, schedule.rate(k));
    const double wanted_loss = expected.at("loss");
    const double wanted_norm = expected.at("grad_norm");
    EXPECT_NEAR(report.loss, wanted_loss, 5e-6 * wanted_loss);
    EXPECT_NEAR(report.gradient_norm, wanted_norm, 3e-5 * wanted_norm);
    EXPECT_NEAR(report.router_loss(RouterLoss::expert), expected.at("expert_loss").get<double>(), 1e-6);
    EXPECT_NEAR(report.router_loss(RouterLoss::device), expected.at("device_loss").get<double>(), 1e-6);
  }
  int compared = 0;
  for (const HfTensor& tensor : hf_tensors(config, run.table())) {
    const SafetensorsTensor* expected = file.find("final." + tensor.name);
    if (expected == nullptr) continue;
    ++compared;
    const std::vector<float> found = download_floats(*machine.device, run.parameters()[tensor.parameter]);
    EXPECT_LT(relative_error(found.data() + tensor.offset, *expected), 1e-4) << tensor.name;
  }
  EXPECT_GT(compared, 2);
}

INSTANTIATE_TEST_SUITE_P(Machines, TenSteps,
                         testing::Combine(testing::ValuesIn(machine_kinds()), testing::ValuesIn(golden_runs())),
                         [](const auto& test) { return std::get<1>(test.param) + "_on_" + std::get<0>(test.param); });

}  // namespace
}  // namespace moe
