#include "study/lengths.h"

#include <algorithm>

#include <fmt/ranges.h>

namespace moe {
namespace {

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

LengthPoint point_of(const SystemSummary& system) {
  LengthPoint point{.seconds = 0, .system = system.name, .losses = {}, .loss = system.loss};
  std::vector<double> seconds;
  for (const JobResult& result : system.results) {
    point.losses.push_back(result.loss);
    seconds.push_back(result.seconds);
  }
  point.seconds = mean(seconds);
  return point;
}

LengthCurve& curve_of(std::vector<LengthCurve>& curves, const std::string& name) {
  for (LengthCurve& curve : curves) {
    if (curve.name == name) return curve;
  }
  curves.push_back({.name = name, .points = {}});
  return curves.back();
}

/// The system's name without the values of study.grid.
std::string name_without_grid(const Study& study, const std::string& system) {
  for (const StudyJob& job : study.jobs) {
    if (job.system != system || job.grid.empty()) continue;
    return job.base.empty() ? "lowest of the grid" : job.base;
  }
  return system;
}

/// Adds the system of each name without grid values that has the lowest loss.
void add_length(std::vector<LengthCurve>& curves, const StudyLength& length) {
  const std::vector<SystemSummary> systems = summarize(length.study, length.results);
  std::vector<std::pair<std::string, LengthPoint>> best;
  for (const SystemSummary& system : systems) {
    const std::string name = name_without_grid(length.study, system.name);
    const auto found = std::find_if(best.begin(), best.end(), [&](const auto& one) { return one.first == name; });
    if (found == best.end()) {
      best.emplace_back(name, point_of(system));
    } else if (system.loss < found->second.loss) {
      found->second = point_of(system);
    }
  }
  for (auto& [name, point] : best) curve_of(curves, name).points.push_back(std::move(point));
}

std::string seeds_text(const LengthPoint& point) {
  std::vector<std::string> losses;
  for (const double loss : point.losses) losses.push_back(fmt::format("{:.4f}", loss));
  return fmt::format("{}", fmt::join(losses, ", "));
}

}  // namespace

std::vector<LengthCurve> length_curves(const std::vector<StudyLength>& lengths) {
  std::vector<LengthCurve> curves;
  for (const StudyLength& length : lengths) add_length(curves, length);
  for (LengthCurve& curve : curves) {
    std::sort(curve.points.begin(), curve.points.end(),
              [](const LengthPoint& a, const LengthPoint& b) { return a.seconds < b.seconds; });
  }
  return curves;
}

std::string length_table(const std::vector<LengthCurve>& curves) {
  std::string text =
      "| seconds of training | system | lowest with | loss, nats per token | seeds |\n"
      "|---|---|---|---|---|\n";
  std::vector<std::pair<double, std::string>> rows;
  for (const LengthCurve& curve : curves) {
    for (const LengthPoint& point : curve.points) {
      rows.emplace_back(point.seconds, fmt::format("| {:.1f} | {} | {} | {:.4f} | {} |\n", point.seconds, curve.name,
                                                   point.system, point.loss, seeds_text(point)));
    }
  }
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& row : rows) text += row.second;
  return text;
}

}  // namespace moe
