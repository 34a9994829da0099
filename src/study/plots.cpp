#include "study/plots.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace moe {
namespace {

constexpr std::array kColours{"#1f6fb4", "#d1495b", "#2e8b57", "#b8860b", "#7b4fa3",
                              "#4a4a4a", "#00808a", "#c46a1b", "#6b8e23", "#a0326e"};
constexpr double kWidth = 760, kLeft = 70, kRight = 190, kTop = 40, kBottom = 50;

/// Maps values to a range of pixels.
struct Axis {
  double low, high, from, to;
  double at(double value) const { return from + (value - low) / (high - low) * (to - from); }
};

Axis axis_of(double low, double high, double from, double to) {
  const double margin = high > low ? 0.06 * (high - low) : std::max(1e-9, 0.05 * std::abs(high));
  return {low - margin, high + margin, from, to};
}

/// Ticks at round numbers.
std::vector<double> ticks(const Axis& axis) {
  const double rough = (axis.high - axis.low) / 6;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = power;
  for (const double factor : {2.0, 5.0, 10.0}) {
    if (step < rough) step = factor * power;
  }
  std::vector<double> result;
  for (double value = std::ceil(axis.low / step) * step; value <= axis.high; value += step) {
    result.push_back(std::abs(value) < 1e-9 * step ? 0.0 : value);  // never -0
  }
  return result;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '<')
      result += "&lt;";
    else if (c == '&')
      result += "&amp;";
    else
      result += c;
  }
  return result;
}

std::string text_at(double x, double y, const char* anchor, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor, escaped(text));
}

std::string line_at(double x1, double y1, double x2, double y2, const char* colour, double width) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-width=\"{}\"/>\n", x1, y1, x2,
      y2, colour, width);
}

std::string document(const std::string& title, double height, const std::string& body) {
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
             "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
             kWidth, height) +
         text_at(kWidth / 2, 22, "middle", title) + body + "</svg>\n";
}

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

std::string line_plot(const std::string& title, const std::string& x_title, const std::vector<Line>& lines) {
  constexpr double kHeight = 440;
  double x_low = 1e300, x_high = -1e300, y_low = 1e300, y_high = -1e300;
  for (const Line& line : lines) {
    for (const auto& [x, y] : line.points) {
      x_low = std::min(x_low, x), x_high = std::max(x_high, x);
      y_low = std::min(y_low, y), y_high = std::max(y_high, y);
    }
  }
  const Axis x = axis_of(x_low, x_high, kLeft, kWidth - kRight), y = axis_of(y_low, y_high, kHeight - kBottom, kTop);
  std::string body;
  for (const double tick : ticks(y)) {
    body += line_at(kLeft, y.at(tick), kWidth - kRight, y.at(tick), "#dddddd", 1);
    body += text_at(kLeft - 6, y.at(tick) + 4, "end", fmt::format("{:.4g}", tick));
  }
  for (const double tick : ticks(x))
    body += text_at(x.at(tick), kHeight - kBottom + 18, "middle", fmt::format("{:.4g}", tick));
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto polyline = [&](const std::string& path) {
      body += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\"{}/>\n", path,
                          kColours[i % kColours.size()], i >= kColours.size() ? " stroke-dasharray=\"5 3\"" : "");
    };
    std::string path;
    for (const auto& [px, py] : lines[i].points) path += fmt::format("{:.1f},{:.1f} ", x.at(px), y.at(py));
    polyline(path);
    const double row = kTop + 16 * static_cast<double>(i) + 8;
    polyline(fmt::format("{:.1f},{:.1f} {:.1f},{:.1f}", kWidth - kRight + 12, row, kWidth - kRight + 34, row));
    body += text_at(kWidth - kRight + 40, row + 4, "start", lines[i].name);
  }
  body += text_at((kLeft + kWidth - kRight) / 2, kHeight - 12, "middle", x_title);
  body += text_at(8, kTop - 4, "start", "validation loss, nats per token");
  return document(title, kHeight, body);
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
  if (!curves.empty()) write("curves", line_plot(study.title, "TFLOP (causal count), first seed", curves));
  const auto masked = switch_lines(systems, "mask_sixteenths", 1.0 / 16);
  if (!masked.empty()) {
    write("figure4", line_plot("each token's best experts passed over", "share of all experts passed over", masked));
  }
  const auto fewer = switch_lines(systems, "experts_per_token", 1);
  if (!fewer.empty()) write("figure5", line_plot("other numbers of routed experts", "routed experts per token", fewer));
  return written;
}

}  // namespace moe
