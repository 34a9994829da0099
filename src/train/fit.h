#pragma once
/// Refuses a run that does not fit its device, and says what would.

#include <string>

#include "train/run_memory.h"

namespace moe {

/// What a setting with a value is called where a user changes it: "{}" stands for the value.
struct FitKeys {
  std::string rows = "data.microbatch_rows = {}";
  std::string recompute = "train.recompute = true";
  std::string evaluated = "eval.batch_rows = {}";
  std::string length = "data.sequence_length = {}";
  std::string layers = "model.num_hidden_layers = {}";
};

/// Throws Error where `run`, of which `memory` is plan_run(), does not fit: one sentence with what it needs, the
/// largest part, what is available, and settings that fit. These are found by planning again, the smallest change
/// first: fewer rows in a microbatch or in an evaluation, recompute, shorter rows, fewer layers.
void refuse_if_too_large(const RunConfig& run, const RunFacts& facts, const RunMemory& memory, const Place& place,
                         const FitKeys& keys = {});

/// Throws Error when `rows` rows that pass through the model together have more choice slots than `most`
/// (DeviceInfo::most_slots; 0: any number): one sentence with both and the most rows that fit. `rows_key` is what a
/// user calls them.
void refuse_too_many_slots(const ModelConfig& config, int64_t rows, int64_t sequence_length, int64_t most,
                           const std::string& rows_key);

}  // namespace moe
