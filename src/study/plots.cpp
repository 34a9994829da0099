#include "study/plots.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "report/pdf.h"
#include "report/svg.h"
#include "study/differences.h"

namespace moe {
namespace {

using namespace svg;

constexpr const char* kLossTitle = "validation loss, nats per token";

std::vector<SystemSummary> chosen(const std::vector<SystemSummary>& systems, const std::vector<std::string>& names) {
  std::vector<SystemSummary> result;
  for (const std::string& name : names) {
    for (const SystemSummary& system : systems) {
      if (system.name == name) result.push_back(system);
    }
  }
  return result;
}

/// The system's place in the study decides how it looks, in every plot.
size_t style_of_system(const Study& study, const std::string& name) {
  const auto found = std::find(study.systems.begin(), study.systems.end(), name);
  return static_cast<size_t>(found - study.systems.begin());
}

/// The mean of the seeds' values, with the band between the smallest and the largest of several.
void add_point(Line& line, double x, const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  line.points.emplace_back(x, sum / static_cast<double>(values.size()));
  if (values.size() < 2) return;
  line.low.push_back(*std::min_element(values.begin(), values.end()));
  line.high.push_back(*std::max_element(values.begin(), values.end()));
}

/// The losses of a switch against its value, if every seed has one.
std::vector<Line> switch_lines(const Study& study, const std::vector<SystemSummary>& systems, const std::string& kind,
                               double scale) {
  std::vector<Line> lines;
  for (const SystemSummary& system : systems) {
    Line line{.name = system.name, .points = {}, .style = style_of_system(study, system.name)};
    for (const SwitchPoint& point : system.results.front().switches) {
      if (point.kind != kind) continue;
      std::vector<double> losses;
      for (const JobResult& result : system.results) {
        if (const auto loss = result.switched_loss(kind, point.value)) losses.push_back(*loss);
      }
      if (losses.size() == system.results.size()) add_point(line, scale * static_cast<double>(point.value), losses);
    }
    if (line.points.size() > 1) lines.push_back(line);
  }
  return lines;
}

/// Losses against FLOPs, at the steps that every seed has.
std::vector<Line> curves_of(const Study& study, const std::vector<SystemSummary>& systems) {
  std::vector<Line> curves;
  for (const SystemSummary& system : systems) {
    const JobResult& first = system.results.front();
    Line line{.name = system.name, .points = {}, .style = style_of_system(study, system.name)};
    for (const CurvePoint& point : first.curve) {
      std::vector<double> losses;
      for (const JobResult& result : system.results) {
        for (const CurvePoint& other : result.curve) {
          if (other.step == point.step) losses.push_back(other.loss);
        }
      }
      if (losses.size() == system.results.size()) add_point(line, first.flops(point.step) * 1e-12, losses);
    }
    if (line.points.size() > 1) curves.push_back(line);
  }
  return curves;
}

std::string loss_plot(const Study& study, const std::string& title, const std::vector<SystemSummary>& systems) {
  std::vector<Point> points;
  for (const SystemSummary& system : systems) {
    points.push_back({.name = system.name,
                      .value = system.loss,
                      .error = system.loss_error,
                      .style = style_of_system(study, system.name)});
  }
  return point_plot(title, std::string(kLossTitle) + ", with 95% intervals", points);
}

std::vector<Point> difference_points(const Study& study, const std::vector<SystemSummary>& systems) {
  std::vector<Point> points;
  for (const SystemDifference& difference : differences(study, systems)) {
    if (difference.pairs == Pairs::none) continue;
    points.push_back({.name = difference.system,
                      .value = difference.bits.difference,
                      .error = difference.bits.error,
                      .style = style_of_system(study, difference.system)});
  }
  return points;
}

std::string seeds_note(const std::vector<SystemSummary>& systems) {
  const bool several =
      std::any_of(systems.begin(), systems.end(), [](const auto& system) { return system.results.size() > 1; });
  return several ? "; mean of the seeds, from the lowest to the highest" : "";
}

void write_figure(const fs::path& folder, const std::string& name, const std::string& svg) {
  make_folder(folder);
  write_file(folder / (name + ".svg"), svg);
  write_file(folder / (name + ".pdf"), pdf_of_svg(svg));
}

}  // namespace

std::string write_fit_plot(const Study& study, const std::vector<LossFit>& fits, const std::string& key,
                           const fs::path& folder) {
  constexpr int kPieces = 64;
  std::vector<Line> lines;
  for (const LossFit& fit : fits) {
    const std::string name = fit.systems.empty() ? "loss" : fit.systems;
    std::map<double, std::vector<double>> losses;
    for (const FittedRun& run : fit.runs) losses[run.value].push_back(run.loss);
    Line seen{.name = name, .points = {}, .style = lines.size()};
    for (const auto& [value, some] : losses) add_point(seen, value, some);
    Line curve{.name = name + ", fitted", .points = {}, .style = lines.size() + 1};
    const double low = std::log2(losses.begin()->first), high = std::log2(losses.rbegin()->first);
    for (int piece = 0; piece <= kPieces; ++piece) {
      const double value = std::exp2(low + (high - low) * piece / kPieces);
      curve.points.emplace_back(value, fit.at(value));
    }
    lines.push_back(std::move(seen));
    lines.push_back(std::move(curve));
  }
  write_figure(folder, "fit",
               line_plot(fmt::format("{}: {}", study.title, key), key,
                         std::string(kLossTitle) + "; mean of the seeds, from the lowest to the highest", lines, true));
  return "fit.svg";
}

std::string write_length_plot(const std::string& title, const std::vector<LengthCurve>& curves,
                              const fs::path& folder) {
  std::vector<Line> lines;
  for (const LengthCurve& curve : curves) {
    Line line{.name = curve.name, .points = {}, .style = lines.size()};
    for (const LengthPoint& point : curve.points) {
      line.points.emplace_back(point.seconds, point.loss);
      line.low.push_back(*std::min_element(point.losses.begin(), point.losses.end()));
      line.high.push_back(*std::max_element(point.losses.begin(), point.losses.end()));
    }
    lines.push_back(std::move(line));
  }
  write_figure(folder, "lengths",
               line_plot(title, "seconds of training",
                         std::string(kLossTitle) + "; mean of the seeds, from the lowest to the highest", lines, true));
  return "lengths.svg";
}

std::vector<std::string> write_plots(const Study& study, const std::vector<SystemSummary>& systems,
                                     const fs::path& folder) {
  std::vector<std::string> written;
  const auto write = [&](const std::string& name, const std::string& svg) {
    write_figure(folder, name, svg);
    written.push_back(name + ".svg");
  };
  if (systems.empty()) return written;
  write("systems", loss_plot(study, study.title, systems));
  if (const auto points = difference_points(study, systems); !points.empty()) {
    write("differences", point_plot(fmt::format("{}: difference to {}", study.title, study.baseline),
                                    "bits per byte, in pairs, with 95% intervals; left of 0 is better", points, true));
  }
  for (const Study::Bars& bars : study.bars) {
    const auto some = chosen(systems, bars.systems);
    if (!some.empty()) write(bars.name, loss_plot(study, fmt::format("{}: {}", study.title, bars.name), some));
  }
  const std::string loss_title = kLossTitle + seeds_note(systems);
  const auto write_lines = [&](const std::string& name, const std::string& title, const std::string& x_title,
                               const std::vector<Line>& lines) {
    if (!lines.empty()) write(name, line_plot(title, x_title, loss_title, lines));
  };
  write_lines("curves", study.title, "TFLOP (causal count)", curves_of(study, systems));
  write_lines("figure4", "each token's best experts passed over", "share of all experts passed over",
              switch_lines(study, systems, "mask_sixteenths", 1.0 / 16));
  write_lines("figure5", "other numbers of routed experts", "routed experts per token",
              switch_lines(study, systems, "experts_per_token", 1));
  return written;
}

}  // namespace moe
