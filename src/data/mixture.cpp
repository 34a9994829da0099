#include "data/mixture.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace moe {
namespace {

constexpr double kWhole = 0x1p32;

}  // namespace

Mixture::Mixture(const std::vector<double>& weights) {
  MOE_CHECK(!weights.empty());
  double rest = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (const double weight : weights) {
    MOE_CHECK(weight > 0 && std::isfinite(weight));
    shares_.push_back(static_cast<uint64_t>(std::clamp(std::round(weight / rest * kWhole), 1.0, kWhole)));
    rest -= weight;
  }
}

// Integers, so that rounding never gives a row to two parts or to none. They are half a row ahead, so that a rare part
// need not wait long for its first row.
int64_t Mixture::taken(size_t part, int64_t rows) const {
  if (part + 1 == shares_.size()) return rows;
  __extension__ using Wide = unsigned __int128;
  const auto product = static_cast<Wide>(rows) * shares_[part];
  return static_cast<int64_t>((product + (uint64_t{1} << 31)) >> 32);
}

Mixture::Place Mixture::place_of(int64_t row) const {
  for (size_t part = 0;; ++part) {
    const int64_t before = taken(part, row);
    if (taken(part, row + 1) > before) return {part, before};
    row -= before;
  }
}

int64_t Mixture::rows_of(size_t part, int64_t rows) const {
  for (size_t above = 0; above < part; ++above) rows -= taken(above, rows);
  return taken(part, rows);
}

}  // namespace moe
