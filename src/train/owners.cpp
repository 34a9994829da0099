#include "train/owners.h"

#include <algorithm>
#include <numeric>

namespace moe {

std::vector<int> owners_of(const std::vector<Parameter>& table, int ranks) {
  std::vector<size_t> order(table.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto elements = [&](size_t i) { return table[i].trained() ? table[i].trained_shape().elements() : 0; };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return elements(a) > elements(b); });
  std::vector<int> owners(table.size(), 0);
  std::vector<int64_t> held(static_cast<size_t>(ranks), 0);
  for (const size_t i : order) {
    if (!table[i].trained()) continue;
    const auto least = std::min_element(held.begin(), held.end());
    owners[i] = static_cast<int>(least - held.begin());
    *least += elements(i);
  }
  return owners;
}

std::vector<bool> owned_by(const std::vector<int>& owners, int rank) {
  std::vector<bool> owned;
  for (const int owner : owners) owned.push_back(owner == rank);
  return owned;
}

}  // namespace moe
