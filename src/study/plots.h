#pragma once
/// Plots of a study's results, as SVG.

#include "study/fit.h"
#include "study/lengths.h"
#include "study/table.h"

namespace moe {

/// Writes systems.svg (losses with their intervals), differences.svg (to the baseline, if there are pairs), the study's
/// bars, curves.svg (loss against FLOPs), and, if they were measured, figure4.svg (loss against the number of skipped
/// best experts) and figure5.svg (loss against the number of experts). Curves are means over seeds with a band from the
/// lowest to the highest. A system looks the same in all of them. Each is written as SVG and as
/// PDF. Returns the names of the SVG files.
std::vector<std::string> write_plots(const Study& study, const std::vector<SystemSummary>& systems,
                                     const fs::path& folder);

/// Writes fit.svg and fit.pdf: the mean loss of each value of `key` with a band over the seeds, and the fitted curves.
/// Returns the name of the SVG file.
std::string write_fit_plot(const Study& study, const std::vector<LossFit>& fits, const std::string& key,
                           const fs::path& folder);

/// Writes lengths.svg and lengths.pdf: loss against seconds of training, with a band from the lowest to the highest
/// seed. Returns the name of the SVG file.
std::string write_length_plot(const std::string& title, const std::vector<LengthCurve>& curves, const fs::path& folder);

}  // namespace moe
