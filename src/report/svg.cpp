#include "report/svg.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace moe::svg {

namespace {

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

}  // namespace

Axis axis_of(double low, double high, double from, double to) {
  const double margin = high > low ? 0.06 * (high - low) : std::max(1e-9, 0.05 * std::abs(high));
  return {low - margin, high + margin, from, to};
}

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

std::string line_plot(const std::string& title, const std::string& x_title, const std::string& y_title,
                      const std::vector<Line>& lines) {
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
  body += text_at(8, kTop - 4, "start", y_title);
  return document(title, kHeight, body);
}

}  // namespace moe::svg
