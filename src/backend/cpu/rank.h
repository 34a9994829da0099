#pragma once
/// The order of scores.

#include <cmath>
#include <limits>

namespace moe::cpu {

/// An order of all scores. Scores that are not numbers come last: they count as minus infinity, and the index decides.
inline float rank(float score) { return std::isnan(score) ? -std::numeric_limits<float>::infinity() : score; }

}  // namespace moe::cpu
