// A training step of every routing method on the GPU: against the CPU operation by operation, with the same draws, and
// the same bits every time.

#include "tests/support/methods.h"

#include <gtest/gtest.h>

#include "ops/compare.h"
#include "ops/transfer.h"
#include "tests/backend/cuda/gpu_models.h"

namespace moe {
namespace {

class CudaMethods : public testing::TestWithParam<MethodCase> {
 protected:
  void SetUp() override { MOE_SKIP_WITHOUT("cuda"); }
  Batch batch() const { return clear_choices_batch(GetParam().config.vocab_size); }

  /// Report and gradients of the first step on a machine.
  struct Result {
    StepReport report;
    std::vector<std::vector<double>> gradients;
  };
  Result first_step(const char* kind, int64_t microbatches, bool recompute = false) const {
    Machine machine(kind);
    StepConfig step = GetParam().step(batch(), microbatches);
    step.recompute = recompute;
    StepUnderTest under(GetParam().config, step, *machine.device, *machine.backend);
    spread_zero_parameters(under.run, *machine.device);
    under.accumulate(batch(), microbatches);
    Result result;
    for (const View& view : under.run.gradients()) {
      if (view) result.gradients.push_back(download_doubles(*machine.device, view));
    }
    result.report = under.run.update(1, 1e-3);
    return result;
  }
};

TEST_P(CudaMethods, EveryOperationAgreesWithTheCpu) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    SCOPED_TRACE(name(dtype));
    Machine gpu("cuda"), cpu("cpu");
    ComparingBackend both(*gpu.backend, *gpu.device, *cpu.backend, {});
    StepUnderTest under(GetParam().config, GetParam().step(batch(), 2, dtype), *gpu.device, both);
    spread_zero_parameters(under.run, *gpu.device);
    under.run.parameters_from_masters();
    for (int64_t k = 1; k <= 2; ++k) {
      under.accumulate(batch(), 2);
      under.run.update(k, 1e-3);
    }
    EXPECT_EQ(both.first_difference(), "");
    EXPECT_GT(both.operations(), 200);
  }
}

// Choices, noise, jitter and thinning are the same, so that losses and gradients differ by rounding alone.
TEST_P(CudaMethods, AStepIsThatOfTheCpu) {
  const Result cpu = first_step("cpu", 2), gpu = first_step("cuda", 2);
  EXPECT_EQ(gpu.report.counts, cpu.report.counts);
  EXPECT_EQ(gpu.report.dropped, cpu.report.dropped);
  EXPECT_NEAR(gpu.report.loss, cpu.report.loss, 1e-5 * cpu.report.loss);
  for (size_t i = 0; i < cpu.report.losses.size(); ++i) {
    EXPECT_NEAR(gpu.report.losses[i], cpu.report.losses[i], 2e-5 * (1e-3 + cpu.report.losses[i]));
  }
  for (size_t p = 0; p < cpu.gradients.size(); ++p) {
    double largest = 0, difference = 0;
    for (size_t i = 0; i < cpu.gradients[p].size(); ++i) {
      largest = std::max(largest, std::abs(cpu.gradients[p][i]));
      difference = std::max(difference, std::abs(gpu.gradients[p][i] - cpu.gradients[p][i]));
    }
    EXPECT_LE(difference, 1e-4 * largest) << "parameter " << p;
  }
}

TEST_P(CudaMethods, RepetitionAndRecomputeGiveTheSameBits) {
  const Result first = first_step("cuda", 2);
  for (const bool recompute : {false, true}) {
    const Result again = first_step("cuda", 2, recompute);
    EXPECT_EQ(again.report.loss, first.report.loss) << recompute;
    EXPECT_EQ(again.report.losses, first.report.losses) << recompute;
    EXPECT_EQ(again.gradients, first.gradients) << recompute;
  }
}

TEST_P(CudaMethods, MicrobatchesDrawTheSame) {
  const Result whole = first_step("cuda", 1), parts = first_step("cuda", 4);
  EXPECT_EQ(parts.report.counts, whole.report.counts);
  EXPECT_EQ(parts.report.dropped, whole.report.dropped);
  EXPECT_NEAR(parts.report.loss, whole.report.loss, 2e-5 * whole.report.loss);
}

INSTANTIATE_TEST_SUITE_P(All, CudaMethods, testing::ValuesIn(method_cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace moe
