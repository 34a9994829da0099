#pragma once
/// How often experts were chosen, and statistics of their load.

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
  std::vector<int64_t> dropped = {};  ///< for each layer: choices whose expert was full

  std::span<const int64_t> of(int64_t layer, int64_t group) const;
  /// The fraction of a layer's choices that were dropped.
  double dropped_share(int64_t layer) const;
  /// The counts of a layer, over all groups.
  std::vector<int64_t> of(int64_t layer) const;
};

/// The load of one layer's experts, as shares p_i = count_i / sum of counts.
struct LoadStatistics {
  std::vector<double> shares;
  double entropy = 0;        ///< -sum p_i ln p_i / ln E: 1 for equal shares, 0 if one expert takes all (and for E = 1)
  double max_over_mean = 0;  ///< E * max p_i: 1 for equal shares, E if one expert takes all
  int64_t dead = 0;          ///< experts that no token chose
};

/// Without counts, all shares are zero and every expert is dead.
LoadStatistics load_statistics(std::span<const int64_t> counts);
LoadStatistics load_statistics(std::span<const int32_t> counts);

/// How similar the loads of a layer's experts are for two groups: sum over e of min(p_e, q_e), where p and q are their
/// shares of choices. 1 means equal shares, 0 means no common expert. [groups, groups]; NaN for a group without
/// choices.
std::vector<double> group_overlap(const RoutingCounts& counts, int64_t layer);
/// The mean of these values over all layers.
std::vector<double> group_overlap(const RoutingCounts& counts);

}  // namespace moe
