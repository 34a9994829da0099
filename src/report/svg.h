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
  bool log = false;  ///< all values are above 0
  double at(double value) const;
};

/// An axis for values from `low` to `high`, with a margin.
Axis axis_of(double low, double high, double from, double to, bool log = false);
/// Ticks at round numbers.
std::vector<double> ticks(const Axis& axis);

/// How a curve or a point looks. No two indices below 120 have the same colour, mark and dash; two that are less than
/// 24 apart share at most one of the three.
struct Style {
  const char* colour;
  const char* dash;  ///< "" is a whole line
  size_t mark;       ///< a shape, below kMarks
};
inline constexpr size_t kMarks = 8;
Style style_of(size_t index);
/// The mark of a style at a place.
std::string mark_at(double x, double y, const Style& style);

/// `anchor`: start, middle or end.
std::string text_at(double x, double y, const char* anchor, const std::string& text);
std::string line_at(double x1, double y1, double x2, double y2, const char* colour, double width);
/// A whole file.
std::string document(const std::string& title, double height, const std::string& body);

struct Line {
  std::string name;
  std::vector<std::pair<double, double>> points;
  size_t style = 0;              ///< an index of style_of()
  std::vector<double> low = {};  ///< of a band, one per point; empty: none
  std::vector<double> high = {};
};

/// Lines with their marks and bands; their names beside them, the lowest last point first. An axis is logarithmic where
/// one line would squeeze the others, and its title then says so. `log_x`: the x axis is logarithmic in any case; every
/// x is above 0.
std::string line_plot(const std::string& title, const std::string& x_title, const std::string& y_title,
                      const std::vector<Line>& lines, bool log_x = false);

/// A value with its interval.
struct Point {
  std::string name;
  double value = 0, error = 0;
  size_t style = 0;
};

/// One row per point, the lowest value first. The axis goes around the points; with `zero` it has 0, and a line there.
std::string point_plot(const std::string& title, const std::string& x_title, std::vector<Point> points,
                       bool zero = false);

}  // namespace moe::svg
