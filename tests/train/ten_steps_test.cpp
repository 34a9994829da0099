// Ten optimizer steps against the independent PyTorch program (tests/golden/ten_steps, ten_steps_muon).

#include <cmath>

#include <gtest/gtest.h>

#include "checkpoint/hf_config.h"
#include "checkpoint/weights.h"
#include "tests/support/golden.h"
#include "tests/support/machines.h"
#include "train/schedule.h"

namespace moe {
namespace {

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
  step.optimizer = {.kind = golden.at("optimizer"),
                    .beta1 = golden.at("beta1"),
                    .beta2 = golden.at("beta2"),
                    .eps = golden.at("eps"),
                    .weight_decay = golden.at("weight_decay"),
                    .momentum = golden.at("momentum"),
                    .clip = golden.at("clip")};
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
                         testing::Combine(testing::ValuesIn(machine_kinds()),
                                          testing::Values("ten_steps", "ten_steps_muon")),
                         [](const auto& test) { return std::get<1>(test.param) + "_on_" + std::get<0>(test.param); });

}  // namespace
}  // namespace moe
