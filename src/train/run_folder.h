#pragma once
/// The folder of a run: run.toml, log.jsonl, eval.jsonl, step-N/ (complete or absent), latest -> step-N, lock.

#include <functional>
#include <optional>

#include "base/file.h"
#include "train/run_config.h"

namespace moe {

class RunFolder {
 public:
  /// Makes the folder and locks it for this process; refuses one that another process holds.
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
  /// The newest complete checkpoint's step.
  std::optional<int64_t> latest_step() const;

  /// Writes step-N: `write` fills a temporary folder, which is then renamed and pointed to by `latest`. An older
  /// complete folder of the same step is replaced. Then removes the checkpoints that `keep` does not keep.
  void save_checkpoint(int64_t step, const std::function<void(const fs::path&)>& write, const CheckpointConfig& keep);
  /// Removes every checkpoint and `latest`; the logs stay.
  void remove_checkpoints();

 private:
  std::vector<int64_t> steps() const;
  void point_latest_to(int64_t step);

  fs::path path_;
  int lock_ = -1;
};

/// The first step of StableMoE's second stage in the run that `path` holds, by its newest checkpoint; nothing where
/// there is no checkpoint or no such stage.
std::optional<int64_t> second_stage_of_run(const fs::path& path);

}  // namespace moe
