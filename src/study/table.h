#pragma once
/// Compares the results of a study's jobs.

#include "study/job.h"

namespace moe {

/// A system, summarised over its seeds.
struct SystemSummary {
  std::string name;
  std::vector<JobResult> results;  ///< of seeds that did not diverge; at least one
  double loss = 0;                 ///< mean over seeds
  /// Half of a 95% interval: over seeds (Student's t) if there are several, else over the documents of the only run.
  double loss_error = 0;
};

/// The systems that have results, in the study's order. Diverged jobs are left out.
std::vector<SystemSummary> summarize(const Study& study, const std::vector<JobResult>& results);

/// A system's mean loss at the point where it had used the budget, interpolated between its evaluations. Nothing if its
/// first evaluation came later.
std::optional<double> loss_at_flops(const SystemSummary& system, double flops);
std::optional<double> loss_at_seconds(const SystemSummary& system, double seconds);

/// The systems as a Markdown table, the diverged jobs of `results` below them, and the rankings at equal FLOPs, time
/// and memory.
std::string study_table(const Study& study, const std::vector<SystemSummary>& systems,
                        const std::vector<JobResult>& results = {});

}  // namespace moe
