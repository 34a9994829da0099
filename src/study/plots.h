#pragma once
/// Plots of a study's results, as SVG.

#include "study/table.h"

namespace moe {

/// One bar per system: its loss with its interval. The axis begins near the smallest loss, not at 0.
std::string bar_plot(const std::string& title, const std::vector<SystemSummary>& systems);

/// Writes systems.svg, the study's bars, curves.svg (loss against FLOPs), and, if they were measured, figure4.svg (loss
/// against the number of skipped best experts) and figure5.svg (loss against the number of experts). Returns the names
/// of the files.
std::vector<std::string> write_plots(const Study& study, const std::vector<SystemSummary>& systems,
                                     const fs::path& folder);

}  // namespace moe
