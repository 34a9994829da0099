#pragma once
/// How long a run is: train.steps, train.epochs or train.hours, of which a run file gives exactly one.

#include <functional>
#include <optional>

#include "train/run_config.h"
#include "train/step.h"

namespace moe {

/// Reads the three keys and sets run.schedule.steps. One that `--set` gives takes the place of the file's. Of epochs S
/// is known here, and in the resolved settings only S remains; of hours it is a guess while run.schedule.hours is set.
void read_length(Settings& settings, RunConfig& run, const RowsPerEpoch& rows_per_epoch);

/// Median seconds of a step of the run, after a few to warm up. The steps are made in memory of their own, with
/// batch(step, microbatch), from 0, and a learning rate of 0.
double measure_step_seconds(const RunConfig& run, const MemoryPlan& plan, Device& device, Backend& backend,
                            const std::function<Batch(int64_t step, int64_t microbatch)>& batch);

/// The steps that the run in `folder` was begun with, by its run.toml; nothing where there is none.
std::optional<int64_t> steps_of_run(const fs::path& folder);

/// The steps that fit `seconds`, at least 1.
int64_t steps_within(double seconds, double seconds_per_step);

}  // namespace moe
