#include "study/plots.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "report/svg.h"

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

/// The losses of a switch (mean over seeds) against its value, if every seed has one.
std::vector<Line> switch_lines(const std::vector<SystemSummary>& systems, const std::string& kind, double scale) {
  std::vector<Line> lines;
  for (const SystemSummary& system : systems) {
    Line line{.name = system.name, .points = {}};
    for (const SwitchPoint& point : system.results.front().switches) {
      if (point.kind != kind) continue;
      double sum = 0;
      size_t seeds = 0;
      for (const JobResult& result : system.results) {
        const auto loss = result.switched_loss(kind, point.value);
        sum += loss.value_or(0);
        seeds += loss ? 1 : 0;
      }
      if (seeds < system.results.size()) continue;
      line.points.emplace_back(scale * static_cast<double>(point.value), sum / static_cast<double>(seeds));
    }
    if (line.points.size() > 1) lines.push_back(line);
  }
  return lines;
}

}  // namespace

std::string bar_plot(const std::string& title, const std::vector<SystemSummary>& systems) {
  constexpr double kBar = 24, kNames = 200;
  const double height = kTop + kBar * static_cast<double>(systems.size()) + kBottom;
  double low = systems.front().loss, high = low;
  for (const SystemSummary& system : systems) {
    low = std::min(low, system.loss - system.loss_error);
    high = std::max(high, system.loss + system.loss_error);
  }
  const Axis x = axis_of(low, high, kNames, kWidth - 90);
  const double bottom = height - kBottom;
  std::string body;
  for (const double tick : ticks(x)) {
    body += line_at(x.at(tick), kTop, x.at(tick), bottom, "#dddddd", 1);
    body += text_at(x.at(tick), bottom + 16, "middle", fmt::format("{:.4g}", tick));
  }
  for (size_t i = 0; i < systems.size(); ++i) {
    const SystemSummary& system = systems[i];
    const double y = kTop + kBar * static_cast<double>(i), middle = y + kBar / 2;
    body += text_at(kNames - 8, middle + 4, "end", system.name);
    body += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n", kNames,
                        y + 4, x.at(system.loss) - kNames, kBar - 8, kColours[0]);
    body += line_at(x.at(system.loss - system.loss_error), middle, x.at(system.loss + system.loss_error), middle,
                    "#222222", 1.5);
    body += text_at(kWidth - 84, middle + 4, "start", fmt::format("{:.4f}", system.loss));
  }
  body += text_at(kWidth / 2, height - 12, "middle", "validation loss, nats per token (the axis does not begin at 0)");
  return document(title, height, body);
}

std::vector<std::string> write_plots(const Study& study, const std::vector<SystemSummary>& systems,
                                     const fs::path& folder) {
  std::vector<std::string> written;
  const auto write = [&](const std::string& name, const std::string& svg) {
    make_folder(folder);
    write_file(folder / (name + ".svg"), svg);
    written.push_back(name + ".svg");
  };
  if (systems.empty()) return written;
  write("systems", bar_plot(study.title, systems));
  for (const Study::Bars& bars : study.bars) {
    const auto some = chosen(systems, bars.systems);
    if (!some.empty()) write(bars.name, bar_plot(fmt::format("{}: {}", study.title, bars.name), some));
  }
  std::vector<Line> curves;
  for (const SystemSummary& system : systems) {
    const JobResult& result = system.results.front();
    Line line{.name = system.name, .points = {}};
    for (const CurvePoint& point : result.curve) line.points.emplace_back(result.flops(point.step) * 1e-12, point.loss);
    if (line.points.size() > 1) curves.push_back(line);
  }
  if (!curves.empty()) write("curves", line_plot(study.title, "TFLOP (causal count), first seed", kLossTitle, curves));
  const auto masked = switch_lines(systems, "mask_sixteenths", 1.0 / 16);
  if (!masked.empty()) {
    write("figure4",
          line_plot("each token's best experts passed over", "share of all experts passed over", kLossTitle, masked));
  }
  const auto fewer = switch_lines(systems, "experts_per_token", 1);
  if (!fewer.empty())
    write("figure5", line_plot("other numbers of routed experts", "routed experts per token", kLossTitle, fewer));
  return written;
}

}  // namespace moe
