#pragma once
/// A backend without arithmetic: it checks each operation and adds up its cost.

#include <map>
#include <string>

#include "ops/backend.h"

namespace moe {

template <class Op>
int64_t flops(const Op&) {
  return 0;  // only products are counted; the time of element-wise work depends on its memory traffic
}

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
    cost.flops += flops(op);
    cost.bytes += traffic_bytes(op);
  }

  const std::map<std::string, Cost>& costs() const { return costs_; }
  Cost total() const {
    Cost sum;
    for (const auto& [name, cost] : costs_) {
      sum.calls += cost.calls;
      sum.flops += cost.flops;
      sum.bytes += cost.bytes;
    }
    return sum;
  }

 private:
  std::map<std::string, Cost> costs_;
};

}  // namespace moe
