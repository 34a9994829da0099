#pragma once
/// The length of a run: train.steps, train.epochs or train.hours. A run file gives exactly one of them.

#include <functional>
#include <optional>

#include "formats/toml.h"
#include "train/dataset_facts.h"
#include "train/step.h"

namespace moe {

/// True for the three keys.
bool is_length(std::string_view key);

/// Reads the three keys and sets run.schedule.steps. A key from `--set` replaces the file's. For epochs, S is known
/// here, and only S remains in the resolved settings. For hours, S is a guess while run.schedule.hours is set.
void read_length(Settings& settings, RunConfig& run, const RowsPerEpoch& rows_per_epoch);

/// The median seconds of a step of the run, after a few steps of warm-up. The steps use memory of their own,
/// batch(step, microbatch) from step 0 on, and a learning rate of 0.
double measure_step_seconds(const RunConfig& run, const MemoryPlan& plan, Device& device, Backend& backend,
                            const std::function<Batch(int64_t step, int64_t microbatch)>& batch);

/// The number of steps with which the run in `folder` began, from its run.toml; nothing if there is none.
std::optional<int64_t> steps_of_run(const fs::path& folder);

/// The steps that fit `seconds`, at least 1.
int64_t steps_within(double seconds, double seconds_per_step);

}  // namespace moe
