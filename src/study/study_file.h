#pragma once
/// A study: a run file whose systems are trained one after the other, each with its own keys over the file's.

#include <map>

#include "train/run_config.h"

namespace moe {

/// A system and a seed.
struct StudyJob {
  std::string system;
  int64_t seed = 1;
  std::string name;  ///< "gshard-seed1"
  RunConfig run;
};

/// What every system of a study may use up, so that all have ended their schedules when they are compared.
enum class Budget {
  tokens,  ///< all train as many steps
  flops,   ///< as many as cost what the reference system's steps cost
  seconds  ///< as many as take as long, by the measured rates
};
const char* name(Budget budget);

struct Study {
  fs::path dir;
  std::string title;
  std::vector<std::string> systems;  ///< names, in the file's order
  std::vector<StudyJob> jobs;        ///< all systems of the first seed, then of the next
  Budget budget = Budget::tokens;
  std::string reference;                           ///< the system whose steps the file says
  std::map<std::string, double> seconds_per_step;  ///< what rates() holds
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
  /// The measured seconds of a step of each system (Budget::seconds).
  fs::path rates() const { return dir / "rates.json"; }
  /// The system's number of steps waits for a rate, its own or the reference's.
  bool lacks_rate(const std::string& system) const;
  fs::path folder(const StudyJob& job) const { return dir / "runs" / job.name; }
};

/// Reads FILE: sections of a run file, and [study] with `dir`, `title`, `seeds`, `systems` ("NAME: KEY=VALUE
/// KEY=VALUE"), `budget`, `reference`, `bars` ("NAME: SYSTEM SYSTEM"), `mask_sixteenths`, `switches` and
/// `keep_checkpoints`. `set` are overrides of the command line, of any key but those that the study sets itself
/// (train.seed, run.dir). UsageErrors as of a run file.
Study read_study(const fs::path& file, const std::vector<std::string>& set,
                 const std::function<int64_t(const std::string& folder)>& dataset_vocabulary);

}  // namespace moe
