#pragma once
/// A study: a run file whose systems are trained one after the other, each with its own keys over the file's.

#include "train/run_config.h"

namespace moe {

/// A system and a seed.
struct StudyJob {
  std::string system;
  int64_t seed = 1;
  std::string name;  ///< "gshard-seed1"
  RunConfig run;
};

struct Study {
  fs::path dir;
  std::string title;
  std::vector<std::string> systems;  ///< names, in the file's order
  std::vector<StudyJob> jobs;        ///< all systems of the first seed, then of the next
  /// Sixteenths of a system's experts that each token's best are passed over by, for Figure 4; none: not measured.
  std::vector<int64_t> mask_sixteenths;
  struct Bars {
    std::string name;  ///< of the plot's file
    std::vector<std::string> systems;
  };
  std::vector<Bars> bars;         ///< plots of some systems' losses
  bool keep_checkpoints = false;  ///< of jobs that have a result
  /// Evaluate with other numbers of routed experts (Figure 5) and without the shared ones (section 4.5).
  bool switches = false;

  fs::path result(const StudyJob& job) const { return dir / "results" / (job.name + ".json"); }
  fs::path folder(const StudyJob& job) const { return dir / "runs" / job.name; }
};

/// Reads FILE: sections of a run file, and [study] with `dir`, `title`, `seeds`, `systems` ("NAME: KEY=VALUE
/// KEY=VALUE"), `bars` ("NAME: SYSTEM SYSTEM"), `mask_sixteenths`, `switches` and `keep_checkpoints`. `set` are
/// overrides of the command line, of any key but those that the study sets itself (train.seed, run.dir). UsageErrors as
/// of a run file.
Study read_study(const fs::path& file, const std::vector<std::string>& set,
                 const std::function<int64_t(const std::string& folder)>& dataset_vocabulary);

}  // namespace moe
