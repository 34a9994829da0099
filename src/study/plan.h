#pragma once
/// What the systems of a study cost, before anything is trained.

#include "study/study_file.h"
#include "train/fit.h"
#include "train/settle.h"

namespace moe {

struct SystemPlan {
  std::string system;
  int64_t total_params = 0, activated_params = 0;
  double flops_per_token = 0;  ///< of training, causal
  int64_t steps = 0;
  double seconds = 0;  ///< of one seed; 0: not known
  int64_t memory_bytes = 0;
  bool fits = true;                   ///< the device's memory
  std::vector<std::string> left_out;  ///< StudyJob::left_out
};

/// Of the first job of each system. Seconds are those of study.seconds_per_step where they were measured, else an
/// estimate from `product_rate`, the FLOP/s of a matrix product in the job's type.
std::vector<SystemPlan> plan_systems(const Study& study, const Place& place,
                                     const std::function<double(DType)>& product_rate);

/// A Markdown table. A number is marked where it differs by more than 2% from the baseline's.
std::string plan_table(const Study& study, const std::vector<SystemPlan>& plans);

}  // namespace moe
