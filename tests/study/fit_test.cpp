// Losses as a curve in one key of the grid: against numbers that are known, and what cannot be fitted.

#include "study/fit.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "study/plots.h"
#include "tests/study/studies.h"

namespace moe::test {
namespace {

using testing::HasSubstr;

constexpr double kValues[] = {1, 2, 4, 8, 16, 32};

/// Runs on 3 + 0.02 (log2(value) - `best`)^2 with a normal error of `noise`, and an offset of each seed.
std::vector<FittedRun> runs_around(double best, double noise, uint64_t draw = 1) {
  const Random random(draw, 0);
  std::vector<FittedRun> runs;
  for (const int64_t seed : {1, 2, 3}) {
    for (const double value : kValues) {
      const double away = std::log2(value) - best, offset = 0.1 * static_cast<double>(seed - 2);
      const double error = noise * random.normal(runs.size());
      runs.push_back({.value = value, .seed = seed, .loss = 3 + 0.02 * away * away + offset + error});
    }
  }
  return runs;
}

TEST(Fit, FindsTheCurveOfExactLosses) {
  const LossFit fit = fit_loss(runs_around(2.5, 0));
  EXPECT_NEAR(fit.curve[2], 0.02, 1e-9);
  EXPECT_NEAR(fit.curve[1], -0.1, 1e-9);
  EXPECT_NEAR(fit.curve[0], 3.125, 1e-9) << "the offsets of the seeds have the mean 0";
  EXPECT_NEAR(fit.best, std::exp2(2.5), 1e-6);
  EXPECT_NEAR(fit.low, fit.best, 1e-6);
  EXPECT_NEAR(fit.high, fit.best, 1e-6);
  EXPECT_NEAR(fit.noise, 0, 1e-9);
  EXPECT_NEAR(fit.error_left_out, 0, 1e-9);
  EXPECT_NEAR(fit.at(fit.best), 3, 1e-9);
}

TEST(Fit, ASeedThatIsMissingSomewhereDoesNotBendTheCurve) {
  std::vector<FittedRun> runs = runs_around(2.5, 0);
  std::erase_if(runs, [](const FittedRun& run) { return run.seed == 3 && run.value > 4; });
  const LossFit fit = fit_loss(runs);
  EXPECT_NEAR(fit.best, std::exp2(2.5), 1e-6);
  EXPECT_NEAR(fit.error_left_out, 0, 1e-9);
}

TEST(Fit, AMonotoneCurveHasItsOptimumAtTheEnd) {
  EXPECT_EQ(fit_loss(runs_around(9, 0)).best, 32);
  EXPECT_EQ(fit_loss(runs_around(-3, 0)).best, 1);
  std::vector<FittedRun> hill = runs_around(2.5, 0);
  for (FittedRun& run : hill) run.loss = 6 - run.loss;
  const double best = fit_loss(hill).best;
  EXPECT_TRUE(best == 1 || best == 32) << best;
}

TEST(Fit, TheIntervalHoldsTheOptimumInAbout95OfAHundred) {
  int held = 0, draws = 200;
  for (int draw = 0; draw < draws; ++draw) {
    const LossFit fit = fit_loss(runs_around(2.5, 0.01, static_cast<uint64_t>(draw) + 10));
    held += fit.low <= std::exp2(2.5) && std::exp2(2.5) <= fit.high ? 1 : 0;
    EXPECT_LT(fit.low, fit.high);
  }
  EXPECT_GE(held, draws * 88 / 100);
  EXPECT_LT(held, draws) << "an interval that always holds it is too wide";
}

TEST(Fit, NoiseAndTheErrorAtAValueLeftOutAreThoseOfTheRuns) {
  double noise = 0, left_out = 0;
  for (uint64_t draw = 0; draw < 100; ++draw) {
    const LossFit fit = fit_loss(runs_around(2.5, 0.01, draw + 500));
    noise += fit.noise * fit.noise / 100;
    left_out += fit.error_left_out * fit.error_left_out / 100;
  }
  EXPECT_NEAR(std::sqrt(noise), 0.01, 0.0007);
  EXPECT_GT(std::sqrt(left_out), 0.01 / std::sqrt(3.0)) << "a mean of three runs, and the curve's own error";
  EXPECT_LT(std::sqrt(left_out), 0.02);
}

/// The results of a study with the axes m and shared, on a curve whose optimum is at m = 4 for shared = 0, 8 for 1.
struct GridStudy : testing::Test {
  TemporaryFolder folder;
  Study study = study_of(folder,
                         "[study]\nseeds = [1, 2]\ngrid = [\"m: model.moe_intermediate_size=1,2,4,8\", "
                         "\"shared: model.n_shared_experts=0,1\"]\n");
  std::vector<JobResult> results;
  GridStudy() {
    for (const StudyJob& job : study.jobs) {
      const double x = std::log2(std::stod(job.grid.at(0).value)), best = job.grid.at(1).value == "0" ? 2 : 3;
      results.push_back(result_of(job.system, job.seed, 3 + 0.05 * (x - best) * (x - best)));
    }
  }
};

TEST_F(GridStudy, HasAFitForEachOtherChoice) {
  const auto fits = fit_study(study, results, "model.moe_intermediate_size");
  ASSERT_EQ(fits.size(), 2u);
  EXPECT_EQ(fits[0].systems, "shared0");
  EXPECT_EQ(fits[1].systems, "shared1");
  EXPECT_NEAR(fits[0].best, 4, 1e-6);
  EXPECT_NEAR(fits[1].best, 8, 1e-6);
  EXPECT_EQ(fits[0].runs.size(), 8u);
  const std::string table = fit_table(fits, "model.moe_intermediate_size");
  EXPECT_THAT(table, HasSubstr("| shared0 | 8 | 1 2 4 8 | 4 | 4 to 4 | 3.0000 | 0.0000 | 0.0000 |"));
  TemporaryFolder plots;
  EXPECT_EQ(write_fit_plot(study, fits, "model.moe_intermediate_size", plots.path()), "fit.svg");
  const std::string svg = read_file(plots / "fit.svg");
  EXPECT_NE(svg.find("model.moe_intermediate_size (logarithmic)"), std::string::npos);
  for (const char* name : {">shared0</text>", ">shared1, fitted</text>"}) EXPECT_THAT(svg, HasSubstr(name));
}

TEST_F(GridStudy, RefusesAnotherKeyAndTooFewValues) {
  const auto refusal = [&](const std::string& key) {
    return error_of<UsageError>([&] { fit_study(study, results, key); });
  };
  EXPECT_THAT(refusal("model.hidden_size"), HasSubstr("study.grid has no such key"));
  EXPECT_THAT(refusal("model.n_shared_experts"), HasSubstr("has the value 0, expected numbers above 0"));
  std::erase_if(results, [](const JobResult& result) { return result.system == "m8-shared1"; });
  EXPECT_THAT(refusal("model.moe_intermediate_size"),
              HasSubstr("shared1 has results with 3 values, expected at least 4"));
}

TEST_F(GridStudy, ADivergedRunIsLeftOut) {
  results.at(0).diverged = 7;
  const auto fits = fit_study(study, results, "model.moe_intermediate_size");
  EXPECT_EQ(fits[0].runs.size(), 7u);
  EXPECT_NEAR(fits[0].best, 4, 1e-6);
}

}  // namespace
}  // namespace moe::test
