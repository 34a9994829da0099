#include "train/owners.h"

#include <algorithm>
#include <numeric>

namespace moe {

std::vector<int> owners_of(const std::vector<Parameter>& table, const RankLayout& layout) {
  std::vector<size_t> order(table.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto elements = [&](size_t i) { return table[i].trained() ? table[i].trained_shape().elements() : 0; };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return elements(a) > elements(b); });
  std::vector<int> owners;
  for (const Parameter& parameter : table) owners.push_back(layout.holders(parameter).first);
  std::vector<int64_t> held(static_cast<size_t>(layout.stage_ranks()), 0);
  for (const size_t i : order) {
    if (!table[i].trained() || layout.is_tied_head(table[i])) continue;
    // Of a divided parameter, all ranks that have one copy take their parts together.
    const int together = layout.divides(table[i]) ? layout.experts : 1;
    int64_t least = -1;
    int first = 0;
    for (int begin = 0; begin < layout.stage_ranks(); begin += together) {
      const int64_t sum = std::accumulate(held.begin() + begin, held.begin() + begin + together, int64_t{0});
      if (least < 0 || sum < least) least = sum, first = begin;
    }
    for (int rank = first; rank < first + together; ++rank) held[static_cast<size_t>(rank)] += elements(i);
    owners[i] = layout.stage_group().rank(together == 1 ? first : first + layout.member());
  }
  return owners;
}

std::vector<bool> owned_by(const std::vector<int>& owners, const std::vector<Parameter>& table,
                           const RankLayout& layout) {
  std::vector<bool> owned;
  for (size_t i = 0; i < table.size(); ++i) {
    owned.push_back(owners[i] == layout.rank && !layout.is_tied_head(table[i]));
  }
  return owned;
}

}  // namespace moe
