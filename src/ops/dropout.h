#pragma once
/// Dropout, for adapters (nn/adapter.h).

#include "ops/routing_methods.h"

namespace moe {

/// y = (y when `accumulate`) + x / (1 - probability) where an element is kept, and 0 where it is dropped. Element d of
/// row t is dropped if u < probability, where u is the uniform draw with the index (first + key(t)) D + d, and key(t) =
/// keys[t] if they are given, else t. So the same rows with the same draws drop the same elements, in any order of
/// rows.
struct Dropout {
  View x;               ///< [T, D]
  View keys = {};       ///< i32 [T], not negative
  View row_count = {};  ///< i32 [1]: only the first rows are read and written; absent: all
  float probability;    ///< in [0, 1)
  Draws draws;
  View y;  ///< [T, D]
  bool accumulate = false;

  static constexpr const char* name = "dropout";
  static constexpr auto fields() {
    return std::array{in("x", &Dropout::x), in("keys", &Dropout::keys).or_absent(),
                      in("row_count", &Dropout::row_count).or_absent(), partial("y", &Dropout::y)};
  }
};

void check(const Dropout& op);

/// What y holds is read, too, if the result is added to it.
inline int64_t traffic_bytes(const Dropout& op) {
  return traffic_bytes<Dropout>(op) + (op.accumulate ? static_cast<int64_t>(op.y.bytes()) : 0);
}

}  // namespace moe
