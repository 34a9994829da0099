#pragma once
/// Whether a run goes on from a checkpoint as the run that it was.

#include "data/shards.h"
#include "train/run_config.h"
#include "train/run_folder.h"
#include "train/same_settings.h"

namespace moe {

/// How a run begins.
struct StartOptions {
  bool resume = false;
  /// Keys that may differ from the checkpoint's.
  std::vector<std::string> allowed = {};
};

/// Keys in effect that differ, of those that change the mathematics, the schedule or what is read (not data.train,
/// whose content counts and not its name). The checkpoint's run.toml is read as a run file is today, so that a key that
/// it lacks has its default.
std::vector<KeyDifference> changed_keys(const FoundCheckpoint& checkpoint, const RunConfig& run);

/// Refuses, as check_same_run() does, what the run file or an override gives otherwise than the checkpoint; then gives
/// each other changed key the checkpoint's value: what follows from other keys, as schedule.warmup_steps from
/// train.steps, stays what it was. True where there was one.
bool keep_settings(Settings& settings, const FoundCheckpoint& checkpoint, const RunConfig& run,
                   const std::vector<std::string>& allowed);

/// Throws Error, naming every difference with both values, where `run` on this dataset would not go on as the run that
/// wrote the checkpoint and the key is not among `allowed`; returns those that are. Fewer steps than are done are
/// refused always.
std::vector<KeyDifference> check_same_run(const FoundCheckpoint& checkpoint, const RunConfig& run, const Dataset& train,
                                          const std::vector<std::string>& allowed);

/// Says the changes, and appends them to changes.jsonl in the run's folder: an object each, with step, key, from, to.
void note_changes(const RunFolder& folder, int64_t step, const std::vector<KeyDifference>& changes);

}  // namespace moe
