#pragma once
/// What the jobs of a study gave, side by side.

#include "study/job.h"

namespace moe {

/// A system over its seeds.
struct SystemSummary {
  std::string name;
  std::vector<JobResult> results;  ///< of seeds whose training ended; at least one
  double loss = 0;                 ///< mean over seeds
  /// Half a 95% interval: over seeds (Student's t) where there are several, else the one run's over documents.
  double loss_error = 0;
};

/// Of the systems that have results, in the study's order; what diverged is left out.
std::vector<SystemSummary> summarize(const Study& study, const std::vector<JobResult>& results);

/// A system's mean loss when it had used up a budget, interpolated between its evaluations; nothing when its first
/// evaluation came later.
std::optional<double> loss_at_flops(const SystemSummary& system, double flops);
std::optional<double> loss_at_seconds(const SystemSummary& system, double seconds);

/// The systems as a Markdown table, those of `results` that diverged below them, and who wins at equal FLOPs, time and
/// memory.
std::string study_table(const Study& study, const std::vector<SystemSummary>& systems,
                        const std::vector<JobResult>& results = {});

}  // namespace moe
