#include "data/order.h"

#include <numeric>
#include <utility>

#include "base/random.h"

namespace moe {

std::vector<int64_t> shuffled(int64_t count, uint64_t seed, uint64_t stream) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  const Random random(seed, stream);
  for (uint64_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[random.below(i, i)]);
  }
  return order;
}

}  // namespace moe
