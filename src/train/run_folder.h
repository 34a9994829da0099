#pragma once
/// The folder of a run: run.toml, log.jsonl, eval.jsonl, step-N/ (complete or absent), latest -> step-N, lock.

#include <functional>
#include <optional>

#include "base/file.h"
#include "checkpoint/trainer_state.h"
#include "train/run_config.h"

namespace moe {

/// The newest checkpoint of a run that training can go on from.
struct FoundCheckpoint {
  fs::path folder;
  TrainerState state;
};

/// A checkpoint that training cannot go on from.
struct DamagedCheckpoint {
  fs::path folder;
  std::string damage;  ///< a sentence
};

/// What `run` holds: the newest good checkpoint, and those newer than it, which are damaged, the newest first.
struct CheckpointSearch {
  std::optional<FoundCheckpoint> found;
  std::vector<DamagedCheckpoint> damaged;
};

/// Looks at the checkpoints' files from the newest on (checkpoint/checkpoint_folder.h), until one is good. Reads only,
/// and needs no lock. Without `latest`, or where that is a copy instead of a link, the result is the same; a copy that
/// is all there is counts as a checkpoint. Throws Error where there are checkpoints, all of them damaged.
CheckpointSearch find_checkpoint(const fs::path& run);

class RunFolder {
 public:
  /// Makes the folder, locks it for this process (refuses one that another process holds) and removes what a killed
  /// process left half-written or half-removed.
  explicit RunFolder(const fs::path& path);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const fs::path& path() const { return path_; }
  fs::path log() const { return path_ / "log.jsonl"; }
  fs::path evaluations() const { return path_ / "eval.jsonl"; }
  fs::path checkpoint(int64_t step) const;
  /// True when an earlier run has left a log or checkpoints here.
  bool holds_a_run() const;

  /// Makes what find_checkpoint() found the newest: damaged ones are renamed to step-N.damaged, and a copy under the
  /// name `latest` becomes step-N, or goes where that is there. `latest` is then a link to it.
  void settle(const CheckpointSearch& search);

  /// Writes step-N: `write` fills a temporary folder, which is then renamed and pointed to by `latest`. An older
  /// complete folder of the same step is replaced. Then removes the checkpoints that `keep` does not keep; one that
  /// cannot be removed is a warning.
  void save_checkpoint(int64_t step, const std::function<void(const fs::path&)>& write, const CheckpointConfig& keep);
  /// Removes every checkpoint and `latest`; the logs stay. What cannot be removed is a warning.
  void remove_checkpoints();

 private:
  void sweep();
  void settle_copy();
  void remove_checkpoint(int64_t step);
  void point_latest_to(int64_t step);

  fs::path path_;
  int lock_ = -1;
};

}  // namespace moe
