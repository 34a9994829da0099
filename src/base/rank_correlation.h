#pragma once

#include <span>
#include <vector>

namespace moe {

/// The rank of each value, from 1 for the smallest; equal values share the mean of their ranks.
std::vector<double> ranks(std::span<const double> values);

/// Spearman's: the correlation of the ranks, from -1 to 1. NaN if all values of one list are equal, or are fewer than
/// two.
double rank_correlation(std::span<const double> a, std::span<const double> b);

}  // namespace moe
