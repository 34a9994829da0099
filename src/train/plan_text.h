#pragma once
/// What a training run will hold and compute, in words, before anything is allocated.

#include <string>

#include "train/step.h"

namespace moe {

/// Parameters by kind, FLOPs of a step in both conventions (model/cost.h), and memory by life class with the largest
/// terms at the peak. Several lines.
std::string plan_text(const ModelConfig& config, const StepConfig& step, const MemoryPlan& plan);

/// What a setting is called where a user changes it, for the advice of refuse_if_too_large.
struct PlanKeys {
  std::string rows = "data.microbatch_rows";
  std::string recompute = "train.recompute";
};

/// Throws Error when the plan needs more than `available_bytes`: one sentence with both, the largest term, and what
/// would fit, found by planning again: the most rows in a microbatch that divide the step's rows, with recompute as it
/// is and with recompute.
void refuse_if_too_large(const ModelConfig& config, const StepConfig& step, const MemoryPlan& plan,
                         int64_t available_bytes, const PlanKeys& keys = {});

/// Throws Error when `rows` rows that pass through the model together have more choice slots than `most`
/// (DeviceInfo::most_slots): one sentence with both and the most rows that fit. `rows_key` is what a user calls them.
void refuse_too_many_slots(const ModelConfig& config, int64_t rows, int64_t sequence_length, int64_t most,
                           const std::string& rows_key);

}  // namespace moe
