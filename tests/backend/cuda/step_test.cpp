// A whole training step on the GPU: against the CPU operation by operation, the same bits every time, no waiting for
// the GPU inside a step, and captured as a graph.

#include <gtest/gtest.h>

#include "formats/toml.h"
#include "ops/compare.h"
#include "ops/transfer.h"
#include "tests/backend/cuda/gpu_models.h"

namespace moe {
namespace {

struct Setting {
  const char* name;
  ModelConfig config;
  DType dtype;
  bool recompute;
  BalanceScope scope;
  Rebuild rebuild = Rebuild::nothing;
};

void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.name; }

class CudaStep : public testing::TestWithParam<Setting> {
 protected:
  void SetUp() override { MOE_SKIP_WITHOUT("cuda"); }
  const ModelConfig& config() const { return GetParam().config; }
  Batch batch() const { return packed_batch(kGpuRows, kGpuLength, config().vocab_size, 9); }
  StepConfig step(int64_t microbatches) const {
    StepConfig result = step_config_for(batch(), microbatches, GetParam().dtype);
    result.recompute = GetParam().recompute;
    result.rebuild = GetParam().rebuild;
    result.balance = {.alpha_expert = 0.05f, .alpha_device = 0.02f, .devices = 2, .scope = GetParam().scope};
    return result;
  }
};

TEST_P(CudaStep, EveryOperationAgreesWithTheCpu) {
  Machine gpu("cuda"), cpu("cpu");
  ComparingBackend both(*gpu.backend, *gpu.device, *cpu.backend, {});
  StepUnderTest under(config(), step(2), *gpu.device, both);
  for (int64_t k = 1; k <= 2; ++k) {
    under.accumulate(batch(), 2);
    under.run.update(k, 1e-3);
  }
  EXPECT_EQ(both.first_difference(), "");
  EXPECT_GT(both.operations(), 200);
}

TEST_P(CudaStep, TheLossesOfThreeStepsAreThoseOfTheCpu) {
  std::vector<StepReport> reports;
  for (const char* kind : {"cpu", "cuda"}) {
    Machine machine(kind);
    StepUnderTest under(config(), step(2), *machine.device, *machine.backend);
    for (int64_t k = 1; k <= 3; ++k) {
      under.accumulate(batch(), 2);
      reports.push_back(under.run.update(k, 1e-3));
    }
  }
  const double tolerance = GetParam().dtype == DType::f32 ? 1e-5 : 1e-2;
  for (size_t k = 0; k < 3; ++k) {
    EXPECT_NEAR(reports[k + 3].loss, reports[k].loss, tolerance * reports[k].loss);
  }
  // Of the first step alone: later, two close scores of experts may fall the other way.
  EXPECT_NEAR(reports[3].gradient_norm, reports[0].gradient_norm, 2 * tolerance * reports[0].gradient_norm);
}

TEST_P(CudaStep, GivesTheSameBitsEveryTime) {
  std::vector<std::vector<std::vector<double>>> runs;
  for (int i = 0; i < 2; ++i) {
    Machine gpu("cuda");
    StepUnderTest under(config(), step(2), *gpu.device, *gpu.backend);
    for (int64_t k = 1; k <= 3; ++k) {
      under.accumulate(batch(), 2);
      under.run.update(k, 1e-3);
    }
    runs.emplace_back();
    for (const auto* views :
         {&under.run.gradients(), &under.run.masters(), &under.run.optimizer().slot("exp_avg_sq")}) {
      for (const View& view : *views) runs.back().push_back(download_doubles(*gpu.device, view));
    }
  }
  EXPECT_EQ(runs[0], runs[1]);
}

TEST_P(CudaStep, NeverWaitsForTheGpu) {
  Machine gpu("cuda");
  auto& device = dynamic_cast<cuda::CudaDevice&>(*gpu.device);
  StepUnderTest under(config(), step(2), device, *gpu.backend);
  for (int64_t k = 1; k <= 2; ++k) {
    under.accumulate(batch(), 2);
    under.run.update(k, 1e-3);
  }
  const int64_t waits = device.waits(), downloads = device.downloads();
  under.accumulate(batch(), 2);
  EXPECT_EQ(device.waits(), waits);
  EXPECT_EQ(device.downloads(), downloads);
  EXPECT_TRUE(std::isfinite(under.run.update(3, 1e-3).loss));
  EXPECT_GT(device.waits(), waits) << "reading the losses is a wait, so waits are counted";
}

TEST_P(CudaStep, IsCapturedAsAGraphThatGivesTheSameBits) {
  Machine gpu("cuda");
  auto& device = dynamic_cast<cuda::CudaDevice&>(*gpu.device);
  StepUnderTest under(config(), step(2), device, *gpu.backend);
  const auto gradients = [&] {
    std::vector<std::vector<double>> result;
    for (const View& view : under.run.gradients()) result.push_back(download_doubles(device, view));
    return result;
  };
  under.accumulate(batch(), 2);
  const auto expected = gradients();

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(device.stream(), cudaStreamCaptureModeGlobal), cudaSuccess);
  under.accumulate(batch(), 2);  // anything that waits or allocates fails the capture
  ASSERT_EQ(cudaStreamEndCapture(device.stream(), &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  for (const View& view : under.run.gradients()) gpu.backend->run(Fill{.x = view, .value = 77});
  ASSERT_EQ(cudaGraphLaunch(executable, device.stream()), cudaSuccess);
  EXPECT_EQ(gradients(), expected);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
}

TEST_P(CudaStep, AllocatesWhatWasPlanned) {
  Machine gpu("cuda");
  const StepConfig wanted = step(2);
  StepUnderTest under(config(), wanted, *gpu.device, *gpu.backend);
  const int64_t planned = plan_training(config(), wanted).total(), allocations = gpu.device->allocations();
  EXPECT_EQ(gpu.device->allocated_bytes(), planned);
  for (int64_t k = 1; k <= 3; ++k) {
    under.accumulate(batch(), 2);
    under.run.update(k, 1e-3);
  }
  EXPECT_EQ(gpu.device->allocations(), allocations);
}

INSTANTIATE_TEST_SUITE_P(Settings, CudaStep,
                         testing::Values(Setting{"tiny_f32", tiny_config(), DType::f32, false, BalanceScope::sequence},
                                         Setting{"wide_f32", gpu_config(), DType::f32, true, BalanceScope::microbatch},
                                         Setting{"tiny_bf16", tiny_config(), DType::bf16, true, BalanceScope::step},
                                         Setting{"wide_bf16", gpu_config(), DType::bf16, false, BalanceScope::sequence},
                                         Setting{"wide_bf16_recompute", gpu_config(), DType::bf16, true,
                                                 BalanceScope::step},
                                         Setting{"wide_bf16_norms", gpu_config(), DType::bf16, false,
                                                 BalanceScope::sequence, Rebuild::norms},
                                         Setting{"wide_bf16_rebuild", gpu_config(), DType::bf16, false,
                                                 BalanceScope::sequence, Rebuild::all}),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace moe
