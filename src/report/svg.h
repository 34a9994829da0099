#pragma once
/// Plots as SVG: the pieces of a plot, and a plot of lines. Lengths are in pixels. Any thread.

#include <array>
#include <string>
#include <utility>
#include <vector>

namespace moe::svg {

inline constexpr std::array kColours{"#1f6fb4", "#d1495b", "#2e8b57", "#b8860b", "#7b4fa3",
                                     "#4a4a4a", "#00808a", "#c46a1b", "#6b8e23", "#a0326e"};
/// The width of a plot, and the margins around its axes.
constexpr double kWidth = 760, kLeft = 70, kRight = 190, kTop = 40, kBottom = 50;

/// Maps values to a range of pixels.
struct Axis {
  double low, high, from, to;
  double at(double value) const { return from + (value - low) / (high - low) * (to - from); }
};

/// An axis for values from `low` to `high`, with a margin.
Axis axis_of(double low, double high, double from, double to);
/// Ticks at round numbers.
std::vector<double> ticks(const Axis& axis);

/// `anchor`: start, middle or end.
std::string text_at(double x, double y, const char* anchor, const std::string& text);
std::string line_at(double x1, double y1, double x2, double y2, const char* colour, double width);
/// A whole file.
std::string document(const std::string& title, double height, const std::string& body);

struct Line {
  std::string name;
  std::vector<std::pair<double, double>> points;
};

std::string line_plot(const std::string& title, const std::string& x_title, const std::vector<Line>& lines);

std::string line_plot(const std::string& title, const std::string& x_title, const std::string& y_title,
                      const std::vector<Line>& lines);

}  // namespace moe::svg
