#include "nn/routers/hash_table.h"

#include <algorithm>
#include <numeric>
#include <queue>

#include <fmt/format.h>

#include "base/random.h"

namespace moe {

std::vector<int32_t> random_hash_table(int64_t vocabulary, int64_t experts, uint64_t seed, int64_t layer) {
  const Random random(seed, hash_name(fmt::format("hash_table.{}", layer)));
  std::vector<int32_t> table(static_cast<size_t>(vocabulary));
  for (size_t id = 0; id < table.size(); ++id) {
    table[id] = static_cast<int32_t>(random.below(id, static_cast<uint64_t>(experts)));
  }
  return table;
}

std::vector<int32_t> balanced_hash_table(std::span<const int64_t> counts, int64_t experts) {
  std::vector<size_t> order(counts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return counts[a] > counts[b]; });
  using Load = std::pair<int64_t, int32_t>;  // text so far, expert
  std::priority_queue<Load, std::vector<Load>, std::greater<>> lightest;
  for (int32_t expert = 0; expert < experts; ++expert) lightest.push({0, expert});
  std::vector<int32_t> table(counts.size());
  for (const size_t id : order) {
    const auto [load, expert] = lightest.top();
    lightest.pop();
    table[id] = expert;
    lightest.push({load + counts[id], expert});
  }
  return table;
}

}  // namespace moe
