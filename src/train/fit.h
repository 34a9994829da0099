#pragma once
/// Refuses a run that does not fit its device, and names settings that fit.

#include <string>

#include "train/run_memory.h"

namespace moe {

/// The name and value of a setting, as a user writes them: "{}" stands for the value.
struct FitKeys {
  std::string rows = "data.microbatch_rows = {}";
  std::string recompute = "train.recompute = true";
  std::string evaluated = "eval.batch_rows = {}";
  std::string length = "data.sequence_length = {}";
  std::string layers = "model.num_hidden_layers = {}";
  std::string step_rows = "data.rows_per_step = {}";
};

/// Throws an Error if `run` does not fit; `memory` is plan_run() of it. The error is one sentence: what the run needs,
/// the largest part, what is available, and settings that fit. These are found by planning again, the smallest change
/// first: fewer rows in a microbatch or in an evaluation, recompute, fewer rows in a step, shorter rows, fewer layers.
void refuse_if_too_large(const RunConfig& run, const RunFacts& facts, const RunMemory& memory, const Place& place,
                         const FitKeys& keys = {});

/// Throws an Error if `rows` rows that pass through the model together have more choice slots than `most`
/// (DeviceInfo::most_slots; 0: no limit). The error names both, and the largest number of rows that fits. `rows_key` is
/// the user's name for the number of rows.
void refuse_too_many_slots(const ModelConfig& config, int64_t rows, int64_t sequence_length, int64_t most,
                           const std::string& rows_key);

}  // namespace moe
