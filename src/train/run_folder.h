#pragma once
/// The folder of a run: run.toml, log.jsonl, eval.jsonl, step-N/ (complete or absent), latest -> step-N, lock.

#include <functional>
#include <optional>

#include "base/file.h"
#include "base/file_lock.h"
#include "checkpoint/trainer_state.h"
#include "train/run_config.h"

namespace moe {

/// The newest checkpoint of a run that training can continue from.
struct FoundCheckpoint {
  fs::path folder;
  TrainerState state;
};

/// A checkpoint that training cannot continue from.
struct DamagedCheckpoint {
  fs::path folder;
  std::string damage;  ///< a sentence
};

/// The checkpoints of `run`: the newest good one, and the damaged ones that are newer, newest first.
struct CheckpointSearch {
  std::optional<FoundCheckpoint> found;
  std::vector<DamagedCheckpoint> damaged;
};

/// Examines the checkpoints' files (checkpoint/checkpoint_folder.h), newest first, until one is good. Only reads, and
/// needs no lock. If `latest` is missing, or is a copy instead of a link, the result is the same. If such a copy is all
/// there is, it counts as a checkpoint. Throws an Error if there are checkpoints and all of them are damaged.
CheckpointSearch find_checkpoint(const fs::path& run);

/// The name of a file that an earlier run, or somebody else, has left in the folder `run` and that a new run would
/// replace: settings, a log that is not empty, a checkpoint. Empty if there is none, or no folder. Only reads, and
/// needs no lock.
std::string held_in(const fs::path& run);

/// Use it on one thread at a time.
class RunFolder {
 public:
  /// Creates the folder and locks it for this process (refuses a folder that another process has locked). Removes what
  /// a killed process left half-written or half-removed. Without `writes`, as for the ranks that only read it, it does
  /// none of this, and no other function that changes the folder may be called.
  explicit RunFolder(const fs::path& path, bool writes = true);
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const fs::path& path() const { return path_; }
  fs::path log() const;
  fs::path evaluations() const;
  fs::path checkpoint(int64_t step) const;

  /// Makes the result of find_checkpoint() the newest checkpoint. Renames damaged ones to step-N.damaged. A copy with
  /// the name `latest` becomes step-N, or is removed if step-N exists. `latest` is then a link to it.
  void settle(const CheckpointSearch& search);

  /// Writes step-N: `write` fills a temporary folder, which is then renamed, and `latest` points to it. An older
  /// complete folder of the same step is replaced. Then removes the checkpoints that `keep` does not keep; if one
  /// cannot be removed, that is a warning.
  void save_checkpoint(int64_t step, const std::function<void(const fs::path&)>& write, const CheckpointConfig& keep);
  /// Removes every checkpoint and `latest`, but not the logs. If something cannot be removed, that is a warning.
  void remove_checkpoints();

 private:
  void sweep();
  void settle_copy();
  void remove_checkpoint(int64_t step);
  void point_latest_to(int64_t step);

  fs::path path_;
  std::optional<FileLock> lock_;
};

}  // namespace moe
