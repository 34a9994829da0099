#pragma once
/// Checks that a run continues from a checkpoint as the same run.

#include "data/shards.h"
#include "formats/toml.h"
#include "train/run_config.h"
#include "train/run_folder.h"
#include "train/run_start.h"
#include "train/same_settings.h"

namespace moe {

/// How a run begins.
struct StartOptions {
  bool resume = false;
  /// Keys that may differ from the checkpoint's.
  std::vector<std::string> allowed = {};
  /// For the log: the program with its version, and the device; "": not told.
  std::string program = {}, device = {};
  /// For the log, of the plan: the memory where the run computes, in bytes, and the estimated seconds of a step; 0: not
  /// known.
  int64_t planned_bytes = 0;
  double planned_step_seconds = 0;
};

/// The checkpoint that a run with this folder begins from; none: at step 0. Throws an Error if the folder holds a run
/// and none is resumed, or if what it holds cannot be resumed. Only reads.
CheckpointSearch search_start(const fs::path& run_dir, bool resume);

/// What a run begins with, for read_run_config(): with `resume`, its newest checkpoint has it.
RunStart start_of(bool resume);

/// The keys in effect that differ and that change the mathematics, the schedule or the data (not data.train, whose
/// content counts and not its name). The checkpoint's run.toml is read like a run file of today, so a key that it lacks
/// has its default. A key that `run`'s other settings leave without effect is not among them.
std::vector<KeyDifference> changed_keys(const FoundCheckpoint& checkpoint, const RunConfig& run);

/// Refuses, like check_same_run(), values from the run file or an override that differ from the checkpoint. Then gives
/// every other changed key the checkpoint's value, so that values which follow from other keys do not change
/// (schedule.warmup_steps follows from train.steps). A kept value that an allowed change leaves without effect is
/// dropped (Settings::keep). Returns true if there was such a key.
bool keep_settings(Settings& settings, const FoundCheckpoint& checkpoint, const RunConfig& run,
                   const std::vector<std::string>& allowed);

/// Throws an Error that names every difference with both values, if `run` on this dataset would not continue as the run
/// that wrote the checkpoint and a key is not in `allowed`. Returns the allowed differences. Fewer steps than are
/// already done, another optimizer.kind, and other adapters (train.parameters, lora.rank, lora.targets), are always
/// refused.
std::vector<KeyDifference> check_same_run(const FoundCheckpoint& checkpoint, const RunConfig& run, const Dataset& train,
                                          const std::vector<std::string>& allowed);

/// Throws an Error if the checkpoint's optimiser state is not what `run` needs: after an allowed change of train.freeze
/// to names that leave out some of the checkpoint's.
void check_optimizer_state(const FoundCheckpoint& checkpoint, const RunConfig& run,
                           const std::vector<KeyDifference>& changes);

/// Refuses a model.from whose weights are others than those that the checkpoint's adapters were trained beside.
/// `fingerprint` is of the weights here (train/base_fingerprint.h). An allowed change of their type is not compared.
void check_base(const FoundCheckpoint& checkpoint, const RunConfig& run, const std::vector<KeyDifference>& changes,
                uint64_t fingerprint);

/// Prints the changes, and appends them to changes.jsonl in the run's folder: one object each, with step, key, from,
/// to.
void note_changes(const RunFolder& folder, int64_t step, const std::vector<KeyDifference>& changes);

}  // namespace moe
