#pragma once
/// The order of scores.

#include <cmath>
#include <limits>

namespace moe::cpu {

/// An order of all scores, those that are not numbers last: beside minus infinity, by index.
inline float rank(float score) { return std::isnan(score) ? -std::numeric_limits<float>::infinity() : score; }

}  // namespace moe::cpu
