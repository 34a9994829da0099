#pragma once
/// A study that was trained for several lengths: how the loss of its systems falls with the seconds of training. Each
/// length is a study of its own, because a schedule ends with the run.

#include "study/table.h"

namespace moe {

/// The study as it was trained for one length, and the results that it has.
struct StudyLength {
  Study study;
  std::vector<JobResult> results;
};

/// What one length gave.
struct LengthPoint {
  double seconds = 0;          ///< of training, mean over the seeds
  std::string system;          ///< with the values of study.grid that gave the lowest mean loss
  std::vector<double> losses;  ///< validation losses of its seeds
  double loss = 0;             ///< their mean
};

/// The points of a system, by seconds. `name` is without the grid's values.
struct LengthCurve {
  std::string name;
  std::vector<LengthPoint> points;
};

/// In the order of the study's systems; those without a result are left out, and so are jobs that diverged.
std::vector<LengthCurve> length_curves(const std::vector<StudyLength>& lengths);

/// A Markdown table.
std::string length_table(const std::vector<LengthCurve>& curves);

}  // namespace moe
