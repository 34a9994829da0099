#pragma once
/// A backend without arithmetic: it checks each operation and adds up its cost.

#include <limits>
#include <map>
#include <string>

#include "ops/backend.h"

namespace moe {

template <class Op>
int64_t flops(const Op&) {
  return 0;  // only products are counted; the time of element-wise work depends on its memory traffic
}

/// For one thread at a time.
class CountingBackend final : public EachOp<CountingBackend> {
 public:
  struct Cost {
    int64_t calls = 0;
    int64_t flops = 0;
    int64_t bytes = 0;
  };

  template <class Op>
  void on(const Op& op) {
    Cost& cost = costs_[Op::name];
    ++cost.calls;
    add(cost.flops, flops(op));
    add(cost.bytes, traffic_bytes(op));
  }

  const std::map<std::string, Cost>& costs() const { return costs_; }
  Cost total() const {
    Cost sum;
    for (const auto& [name, cost] : costs_) {
      sum.calls += cost.calls;
      add(sum.flops, cost.flops);
      add(sum.bytes, cost.bytes);
    }
    return sum;
  }

 private:
  /// Contexts of 100 million tokens cost more than 64 bits count: such a sum stays at the largest number.
  static void add(int64_t& sum, int64_t more) {
    if (__builtin_add_overflow(sum, more, &sum)) sum = std::numeric_limits<int64_t>::max();
  }

  std::map<std::string, Cost> costs_;
};

}  // namespace moe
