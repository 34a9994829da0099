#pragma once
/// Loss as a curve in one number of a study's grid: for instance against model.granularity, to find the best one.

#include <array>
#include <string>
#include <vector>

#include "study/job.h"

namespace moe {

/// One result: the value of the grid's key, the seed, the validation loss in nats per token.
struct FittedRun {
  double value = 0;  ///< above 0
  int64_t seed = 1;
  double loss = 0;
};

/// A parabola in the logarithm, by least squares: loss = curve[0] + curve[1] x + curve[2] x^2 + (an offset of the
/// seed), x = log2(value). The offsets have the mean 0 over the runs.
struct LossFit {
  std::string systems;  ///< what the systems are called without the value; may be empty
  std::vector<FittedRun> runs;
  std::array<double, 3> curve{};
  /// Root of the mean square of the residuals, for the degrees of freedom that the curve and the seeds leave.
  double noise = 0;
  /// Each value's runs are left out in turn, and its mean loss is predicted by the others: the root of the mean square.
  double error_left_out = 0;
  /// The tried range's value with the lowest loss on the curve, and a 95% interval of it: the residuals are drawn
  /// again, with replacement, 2000 times (always the same draws).
  double best = 0, low = 0, high = 0;

  double at(double value) const;
};

/// The fewest different values for a curve and an error of it.
constexpr size_t kLeastFitValues = 4;

/// `runs` have at least kLeastFitValues different values.
LossFit fit_loss(std::vector<FittedRun> runs);

/// A fit for each set of systems that differ in `key` alone, an axis of study.grid whose values are numbers above 0.
/// Another key, or too few values with results, is a UsageError. Diverged results are left out.
std::vector<LossFit> fit_study(const Study& study, const std::vector<JobResult>& results, const std::string& key);

/// The fits as a Markdown table with a heading.
std::string fit_table(const std::vector<LossFit>& fits, const std::string& key);

}  // namespace moe
