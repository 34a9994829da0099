#include "report/svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

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

double Axis::at(double value) const {
  const double part = log ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
  return from + part * (to - from);
}

Axis axis_of(double low, double high, double from, double to, bool log) {
  if (log) {
    const double margin = std::pow(high / low, 0.06);
    return {low / margin, high * margin, from, to, true};
  }
  const double margin = high > low ? 0.06 * (high - low) : std::max(1e-9, 0.05 * std::abs(high));
  return {low - margin, high + margin, from, to};
}

namespace {

/// Multiples of powers of ten, so many that there are about six.
std::vector<double> log_ticks(const Axis& axis) {
  const auto all = [&](std::initializer_list<double> multiples) {
    std::vector<double> result;
    for (double power = std::pow(10.0, std::floor(std::log10(axis.low))); power <= axis.high; power *= 10) {
      for (const double multiple : multiples) {
        if (multiple * power >= axis.low && multiple * power <= axis.high) result.push_back(multiple * power);
      }
    }
    return result;
  };
  std::vector<double> result = all({1});
  if (result.size() < 4) result = all({1, 2, 5});
  if (result.size() < 4) result = all({1, 1.5, 2, 3, 4, 5, 6, 8});
  return result;
}

}  // namespace

std::vector<double> ticks(const Axis& axis) {
  if (axis.log) return log_ticks(axis);
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

Style style_of(size_t index) {
  static constexpr std::array kDashes{"", "6 3", "2 2"};
  return {.colour = kColours[index % kColours.size()], .dash = kDashes[index % kDashes.size()], .mark = index % kMarks};
}

std::string mark_at(double x, double y, const Style& style) {
  // Filled shapes, and a cross and a plus of lines.
  static constexpr std::array<const char*, kMarks> kShapes{"M-3.6 0A3.6 3.6 0 1 1 3.6 0A3.6 3.6 0 1 1 -3.6 0Z",
                                                           "M-3.2 -3.2H3.2V3.2H-3.2Z",
                                                           "M0 -4.4L4.2 3.2H-4.2Z",
                                                           "M0 -4.8L4.8 0L0 4.8L-4.8 0Z",
                                                           "M0 4.4L4.2 -3.2H-4.2Z",
                                                           "M-3.4 -3.4L3.4 3.4M-3.4 3.4L3.4 -3.4",
                                                           "M-4.4 0H4.4M0 -4.4V4.4",
                                                           "M-4.6 -1.6H4.6V1.6H-4.6Z"};
  return fmt::format(
      "<path d=\"{}\" transform=\"translate({:.1f} {:.1f})\" fill=\"{}\" stroke=\"{}\" stroke-width=\"1.4\"/>\n",
      kShapes[style.mark], x, y, style.colour, style.colour);
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

namespace {

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;

  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

constexpr double kSqueezed = 4;  // a line that is so many times longer than the middle one squeezes the others

/// True if the longest line is much longer than the middle one, and no value is 0.
bool needs_log_x(const std::vector<Line>& lines) {
  std::vector<double> ends;
  for (const Line& line : lines) {
    Range range;
    for (const auto& [x, y] : line.points) range.add(x);
    if (range.low <= 0) return false;
    ends.push_back(range.high);
  }
  std::sort(ends.begin(), ends.end());
  return ends.back() > kSqueezed * ends[(ends.size() - 1) / 2];
}

bool needs_log_y(const Range& range, const std::vector<Line>& lines) {
  std::vector<double> lasts;
  for (const Line& line : lines) lasts.push_back(line.points.back().second);
  std::sort(lasts.begin(), lasts.end());
  return range.low > 0 && range.high > kSqueezed * lasts[(lasts.size() - 1) / 2];
}

std::string axes(const Axis& x, const Axis& y, double height) {
  std::string body;
  for (const double tick : ticks(y)) {
    body += line_at(kLeft, y.at(tick), kWidth - kRight, y.at(tick), "#dddddd", 1);
    body += text_at(kLeft - 6, y.at(tick) + 4, "end", fmt::format("{:.6g}", tick));
  }
  for (const double tick : ticks(x)) {
    body += line_at(x.at(tick), height - kBottom, x.at(tick), height - kBottom + 4, "#888888", 1);
    body += text_at(x.at(tick), height - kBottom + 18, "middle", fmt::format("{:.6g}", tick));
  }
  return body + line_at(kLeft, height - kBottom, kWidth - kRight, height - kBottom, "#888888", 1);
}

std::string polyline(const std::string& path, const Style& style) {
  return fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\"{}/>\n", path,
                     style.colour, *style.dash == '\0' ? "" : fmt::format(" stroke-dasharray=\"{}\"", style.dash));
}

std::string band_of(const Line& line, const Axis& x, const Axis& y) {
  if (line.low.empty()) return "";
  std::string path;
  for (size_t i = 0; i < line.points.size(); ++i) {
    path += fmt::format("{:.1f},{:.1f} ", x.at(line.points[i].first), y.at(line.low[i]));
  }
  for (size_t i = line.points.size(); i-- > 0;) {
    path += fmt::format("{:.1f},{:.1f} ", x.at(line.points[i].first), y.at(line.high[i]));
  }
  return fmt::format("<polygon points=\"{}\" fill=\"{}\" fill-opacity=\"0.18\"/>\n", path, style_of(line.style).colour);
}

}  // namespace

std::string line_plot(const std::string& title, const std::string& x_title, const std::string& y_title,
                      const std::vector<Line>& given, bool log_x) {
  constexpr double kRow = 16, kLeast = 440, kMostMarks = 10;
  std::vector<Line> lines = given;
  std::stable_sort(lines.begin(), lines.end(),
                   [](const Line& a, const Line& b) { return a.points.back().second < b.points.back().second; });
  const double height = std::max(kLeast, kTop + kRow * static_cast<double>(lines.size()) + kBottom);
  Range xs, ys;
  for (const Line& line : lines) {
    for (const auto& [x, y] : line.points) xs.add(x), ys.add(y);
    for (const double value : line.low) ys.add(value);
    for (const double value : line.high) ys.add(value);
  }
  const bool log_y = needs_log_y(ys, lines);
  log_x = log_x || needs_log_x(lines);
  const Axis x = axis_of(xs.low, xs.high, kLeft, kWidth - kRight, log_x),
             y = axis_of(ys.low, ys.high, height - kBottom, kTop, log_y);
  std::string body = axes(x, y, height);
  for (const Line& line : lines) body += band_of(line, x, y);
  double row = kTop + 8;
  for (const Line& line : lines) {
    const Style style = style_of(line.style);
    std::string path, marks;
    const auto count = static_cast<double>(line.points.size());
    const auto every = std::max<size_t>(1, static_cast<size_t>(std::ceil(count / kMostMarks)));
    for (size_t i = 0; i < line.points.size(); ++i) {
      const auto& [px, py] = line.points[i];
      path += fmt::format("{:.1f},{:.1f} ", x.at(px), y.at(py));
      if ((line.points.size() - 1 - i) % every == 0) marks += mark_at(x.at(px), y.at(py), style);
    }
    body += polyline(path, style) + marks;
    const double left = kWidth - kRight + 10, right = kWidth - kRight + 36;
    body += polyline(fmt::format("{:.1f},{:.1f} {:.1f},{:.1f}", left, row, right, row), style);
    body += mark_at((left + right) / 2, row, style);
    body += text_at(right + 6, row + 4, "start", line.name);
    row += kRow;
  }
  body += text_at((kLeft + kWidth - kRight) / 2, height - 12, "middle", x_title + (log_x ? " (logarithmic)" : ""));
  body += text_at(8, kTop - 4, "start", y_title + (log_y ? " (logarithmic)" : ""));
  return document(title, height, body);
}

std::string point_plot(const std::string& title, const std::string& x_title, std::vector<Point> points, bool zero) {
  constexpr double kRow = 22, kNames = 200, kValues = 150, kCap = 4;
  std::stable_sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.value < b.value; });
  const double height = kTop + kRow * static_cast<double>(points.size()) + kBottom, bottom = height - kBottom;
  Range range;
  if (zero) range.add(0);
  for (const Point& point : points) {
    const double error = std::isfinite(point.error) ? point.error : 0;
    range.add(point.value - error);
    range.add(point.value + error);
  }
  const Axis x = axis_of(range.low, range.high, kNames, kWidth - kValues);
  std::string body;
  for (const double tick : ticks(x)) {
    const bool is_zero = zero && tick == 0;
    body += line_at(x.at(tick), kTop, x.at(tick), bottom, is_zero ? "#555555" : "#dddddd", is_zero ? 1.4 : 1);
    body += text_at(x.at(tick), bottom + 16, "middle", fmt::format("{:.6g}", tick));
  }
  double middle = kTop + kRow / 2;
  for (const Point& point : points) {
    const Style style = style_of(point.style);
    body += text_at(kNames - 8, middle + 4, "end", point.name);
    std::string value = fmt::format("{:.4f}", point.value);
    if (std::isfinite(point.error) && point.error > 0) {
      const double left = x.at(point.value - point.error), right = x.at(point.value + point.error);
      body += line_at(left, middle, right, middle, style.colour, 1.6);
      for (const double end : {left, right}) {
        body += line_at(end, middle - kCap, end, middle + kCap, style.colour, 1.6);
      }
      value += fmt::format(" ± {:.4f}", point.error);
    }
    body += mark_at(x.at(point.value), middle, style);
    body += text_at(kWidth - kValues + 8, middle + 4, "start", value);
    middle += kRow;
  }
  body += text_at((kNames + kWidth - kValues) / 2, height - 12, "middle", x_title);
  return document(title, height, body);
}

}  // namespace moe::svg
