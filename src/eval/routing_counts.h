#pragma once
/// How often experts were chosen, and what that says about their load.

#include <cstdint>
#include <span>
#include <vector>

namespace moe {

/// counts[(layer * groups + group) * experts + expert]: tokens of a group (a domain) that chose an expert, per MoE
/// layer.
struct RoutingCounts {
  int64_t layers = 0;
  int64_t groups = 0;
  int64_t experts = 0;
  std::vector<int64_t> counts;
  std::vector<int64_t> dropped = {};  ///< per layer: choices that found their expert full

  std::span<const int64_t> of(int64_t layer, int64_t group) const;
  /// Dropped choices of a layer, of all.
  double dropped_share(int64_t layer) const;
  /// Of a layer, over all groups.
  std::vector<int64_t> of(int64_t layer) const;
};

/// The load of one layer's experts: shares p_i = count_i / sum of counts.
struct LoadStatistics {
  std::vector<double> shares;
  double entropy = 0;        ///< -sum p_i ln p_i / ln E: 1 when all are equal, 0 when one takes all (and for E = 1)
  double max_over_mean = 0;  ///< E * max p_i: 1 when all are equal, E when one takes all
  int64_t dead = 0;          ///< experts that no token chose
};

/// All zero shares (and every expert dead) when nothing was counted.
LoadStatistics load_statistics(std::span<const int64_t> counts);
LoadStatistics load_statistics(std::span<const int32_t> counts);

/// How alike the loads of a layer's experts are for two groups: sum over e of min(p_e, q_e), p and q being their shares
/// of choices. 1: the same shares, 0: no expert in common. [groups, groups]; NaN beside a group without choices.
std::vector<double> group_overlap(const RoutingCounts& counts, int64_t layer);
/// The mean of that over all layers.
std::vector<double> group_overlap(const RoutingCounts& counts);

}  // namespace moe
