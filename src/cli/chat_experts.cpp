#include "cli/chat_experts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "base/units.h"

namespace moe {
namespace {

constexpr int kBarCells = 8;

/// Eighths of a cell, from the left; padded to kBarCells.
std::string bar(double fraction) {
  static constexpr std::array kParts{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = std::clamp(static_cast<int>(std::lround(fraction * 8 * kBarCells)), 1, 8 * kBarCells);
  std::string text;
  for (int i = 0; i < eighths / 8; ++i) text += "█";
  text += kParts[static_cast<size_t>(eighths % 8)];
  text.append(static_cast<size_t>(kBarCells - (eighths + 7) / 8), ' ');
  return text;
}

double boost_of(const RoutingSwitches& switches, int64_t layer, int64_t expert) {
  double sum = 0;
  for (const ExpertBoost& boost : switches.boosted) {
    if (boost.layer == layer && boost.expert == expert) sum += boost.value;
  }
  return sum;
}

std::vector<int64_t> masked_in(const RoutingSwitches& switches, int64_t layer) {
  std::vector<int64_t> experts;
  for (const ExpertMask& mask : switches.masked) {
    if (mask.layer == layer) experts.insert(experts.end(), mask.experts.begin(), mask.experts.end());
  }
  return experts;
}

/// "  5 ████████ 31%": + and - mark a boosted expert.
std::string entry(const LayerUse& use, size_t expert, double most, const RoutingSwitches& switches) {
  const double share = static_cast<double>(use.chosen[expert]) / static_cast<double>(use.choices);
  const double boost = boost_of(switches, use.layer, static_cast<int64_t>(expert));
  const char* const mark = boost > 0 ? "+" : boost < 0 ? "-" : " ";
  return fmt::format("{:>4}{} {} {:>3.0f}%", expert, mark, bar(share / most), 100 * share);
}

}  // namespace

std::string experts_table(const std::vector<LayerUse>& layers, const RoutingSwitches& switches, int64_t most) {
  if (layers.empty() || layers[0].choices == 0) return "";
  double largest = 0;
  for (const LayerUse& use : layers) {
    for (const int64_t chosen : use.chosen) {
      largest = std::max(largest, static_cast<double>(chosen) / static_cast<double>(std::max<int64_t>(use.choices, 1)));
    }
  }
  std::string text = "layer  expert and its share of the choices\n";
  for (const LayerUse& use : layers) {
    std::vector<size_t> order(use.chosen.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return use.chosen[a] > use.chosen[b]; });
    std::string line = fmt::format("{:>5}", use.layer);
    size_t others = 0;
    for (size_t i = 0; i < order.size() && use.chosen[order[i]] > 0; ++i) {
      if (static_cast<int64_t>(i) < most) {
        line += ' ';
        line += entry(use, order[i], largest, switches);
      } else {
        ++others;
      }
    }
    if (others > 0) line += fmt::format("   and {}", counted(others, "other"));
    if (const auto masked = masked_in(switches, use.layer); !masked.empty()) {
      line += fmt::format("   masked: {}", fmt::join(masked, ", "));
    }
    text += line + "\n";
  }
  return text;
}

std::string masks_text(const RoutingSwitches& switches) {
  if (switches.masked.empty()) return "none";
  std::vector<std::string> masks;
  for (const ExpertMask& mask : switches.masked) {
    masks.push_back(fmt::format("{}:{}", mask.layer, fmt::join(mask.experts, ",")));
  }
  return fmt::format("{}", fmt::join(masks, " "));
}

std::string boosts_text(const RoutingSwitches& switches) {
  if (switches.boosted.empty()) return "none";
  std::vector<std::string> boosts;
  for (const ExpertBoost& boost : switches.boosted) {
    boosts.push_back(fmt::format("{}:{} {:+}", boost.layer, boost.expert, boost.value));
  }
  return fmt::format("{}", fmt::join(boosts, ", "));
}

}  // namespace moe
