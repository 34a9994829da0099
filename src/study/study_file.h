#pragma once
/// A study: a run file, and systems that are trained one after the other. Each system changes some keys of the file.

#include <map>

#include "base/fs.h"
#include "train/run_config.h"

namespace moe {

/// A key of study.grid with one of its values. A system's name has the axis' name and the value: "m" and "4" give "m4".
struct GridValue {
  std::string name, key, value;
};

/// One system with one seed.
struct StudyJob {
  std::string system;
  std::string base = {};  ///< the system's name without the grid's values; empty where the file has a grid alone
  std::vector<GridValue> grid = {};  ///< in the order of the name
  int64_t seed = 1;
  std::string name;  ///< "gshard-seed1"
  RunConfig run;
  std::vector<std::string> left_out = {};  ///< of study.where_possible, each with the reason
};

/// What limits the training of every system. All systems have completed their schedules when they are compared.
enum class Budget {
  tokens,  ///< all systems train the same number of steps
  flops,   ///< the number of steps that costs the same FLOPs as the reference system's steps
  seconds  ///< the number of steps that takes the same time, by measured rates
};
const char* name(Budget budget);

struct Study {
  fs::path dir;
  std::string title;
  std::vector<std::string> systems;  ///< names, in the file's order
  std::vector<StudyJob> jobs;        ///< the jobs of the first seed for all systems, then those of the next seed
  Budget budget = Budget::tokens;
  std::string reference;                           ///< the system that trains the file's number of steps
  std::string baseline;                            ///< the system that others are compared with
  std::map<std::string, double> seconds_per_step;  ///< the content of the file rates()
  /// For Figure 4: which fractions (in sixteenths) of the experts to skip, best-scored first. Empty: not measured.
  std::vector<int64_t> mask_sixteenths;
  struct Bars {
    std::string name;  ///< name of the plot's file
    std::vector<std::string> systems;
  };
  std::vector<Bars> bars;         ///< plots of the losses of some systems
  bool keep_checkpoints = false;  ///< keep the checkpoints of jobs that have a result
  /// Evaluate with other numbers of routed experts (Figure 5) and without the shared ones (section 4.5).
  bool switches = false;

  fs::path result(const StudyJob& job) const { return dir / "results" / (job.name + ".json"); }
  /// The file with the losses of the job's validation documents (eval/document_losses.h).
  fs::path documents(const StudyJob& job) const { return dir / "documents" / (job.name + ".jsonl"); }
  /// The file with the measured seconds of a step of each system (Budget::seconds).
  fs::path rates() const { return dir / "rates.json"; }
  /// True if the system's number of steps needs a rate that is not measured yet, its own or the reference's.
  bool lacks_rate(const std::string& system) const;
  /// The file whose lock the process holds that trains the job, or that measures the rates.
  fs::path lock(const StudyJob& job) const { return dir / "locks" / job.name; }
  fs::path rates_lock() const { return dir / "locks" / "rates"; }
  fs::path folder(const StudyJob& job) const { return dir / "runs" / job.name; }
};

}  // namespace moe
