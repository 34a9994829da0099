#pragma once
/// Which of several learning rates is best, by short runs from the same start.

#include "study/job.h"

namespace moe {

/// An eighth of `rate` to 16 times it, each twice the one before.
std::vector<double> rates_around(double rate);

/// The folder of the short runs, beside that of the run.
fs::path rate_folder(const RunConfig& run);

/// Takes the results in the order of rising rates. Use it on one thread at a time.
class RateSearch {
 public:
  explicit RateSearch(double given) : given_(given) {}

  void add(double rate, JobResult result);
  /// True if the last two rates are clearly worse than the best one: they diverged, or their paired interval over
  /// documents is above 0. Higher rates would not be better.
  bool done() const;
  /// The place of the lowest loss; nothing if all diverged.
  std::optional<size_t> best() const;
  /// The rates that are not clearly worse than the best one.
  std::vector<double> as_good() const;
  /// The table and a recommendation. `steps` of a short run, `all` of the whole run.
  std::string text(int64_t steps, int64_t all) const;

 private:
  struct Trial {
    double rate;
    JobResult result;
  };
  bool clearly_worse(const Trial& trial) const;

  double given_;
  std::vector<Trial> trials_;
};

}  // namespace moe
