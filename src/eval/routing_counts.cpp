#include "eval/routing_counts.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace moe {
namespace {

template <class Count>
LoadStatistics statistics_of(std::span<const Count> counts) {
  LoadStatistics load;
  const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  const auto experts = static_cast<double>(counts.size());
  for (const Count count : counts) {
    const double share = total > 0 ? static_cast<double>(count) / total : 0.0;
    load.shares.push_back(share);
    if (count > 0) load.entropy -= share * std::log(share);
    load.max_over_mean = std::max(load.max_over_mean, experts * share);
    load.dead += count == 0 ? 1 : 0;
  }
  load.entropy = counts.size() > 1 ? load.entropy / std::log(experts) : 0.0;
  return load;
}

}  // namespace

std::span<const int64_t> RoutingCounts::of(int64_t layer, int64_t group) const {
  MOE_CHECK(layer >= 0 && layer < layers && group >= 0 && group < groups);
  return std::span(counts).subspan(static_cast<size_t>((layer * groups + group) * experts),
                                   static_cast<size_t>(experts));
}

double RoutingCounts::dropped_share(int64_t layer) const {
  const std::vector<int64_t> chosen = of(layer);
  const auto all = std::accumulate(chosen.begin(), chosen.end(), 0.0);
  return all > 0 && !dropped.empty() ? static_cast<double>(dropped[static_cast<size_t>(layer)]) / all : 0.0;
}

std::vector<int64_t> RoutingCounts::of(int64_t layer) const {
  std::vector<int64_t> sum(static_cast<size_t>(experts), 0);
  for (int64_t group = 0; group < groups; ++group) {
    const auto part = of(layer, group);
    std::transform(part.begin(), part.end(), sum.begin(), sum.begin(), std::plus<>());
  }
  return sum;
}

LoadStatistics load_statistics(std::span<const int64_t> counts) { return statistics_of(counts); }
LoadStatistics load_statistics(std::span<const int32_t> counts) { return statistics_of(counts); }

std::vector<double> group_overlap(const RoutingCounts& counts, int64_t layer) {
  std::vector<LoadStatistics> loads;
  for (int64_t group = 0; group < counts.groups; ++group) loads.push_back(load_statistics(counts.of(layer, group)));
  std::vector<double> overlap;
  for (const LoadStatistics& a : loads) {
    for (const LoadStatistics& b : loads) {
      const bool both = a.max_over_mean > 0 && b.max_over_mean > 0;
      overlap.push_back(both ? 0.0 : std::numeric_limits<double>::quiet_NaN());
      for (size_t e = 0; e < a.shares.size(); ++e) overlap.back() += std::min(a.shares[e], b.shares[e]);
    }
  }
  return overlap;
}

std::vector<double> group_overlap(const RoutingCounts& counts) {
  std::vector<double> mean(static_cast<size_t>(counts.groups * counts.groups), 0.0);
  for (int64_t layer = 0; layer < counts.layers; ++layer) {
    const std::vector<double> overlap = group_overlap(counts, layer);
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += overlap[i] / static_cast<double>(counts.layers);
  }
  return mean;
}

}  // namespace moe
