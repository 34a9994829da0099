#include "eval/choice_statistics.h"

#include <algorithm>
#include <tuple>

#include "base/error.h"

namespace moe {
namespace {

// How often each token id occurs, by id.
std::vector<int64_t> occurrences(const Documents& documents) {
  std::vector<int64_t> counts;
  std::vector<int32_t> tokens;
  for (int64_t document = 0; document < documents.count(); ++document) {
    tokens.resize(static_cast<size_t>(documents.length(document)));
    documents.copy_tokens(document, 0, documents.length(document), tokens.data());
    for (const int32_t id : tokens) {
      const auto index = static_cast<size_t>(id);
      if (index >= counts.size()) counts.resize(index + 1, 0);
      ++counts[index];
    }
  }
  return counts;
}

template <class Item>
void keep_first(std::vector<Item>& items, int64_t count) {
  items.resize(std::min(items.size(), static_cast<size_t>(count)));
}

}  // namespace

int64_t ChoiceStatistics::pair(int64_t layer, int64_t first, int64_t second) const {
  return pairs[static_cast<size_t>((layer * experts + first) * experts + second)];
}

ChoiceCounter::ChoiceCounter(const Documents& documents, int64_t layers, int64_t experts, int64_t min_count)
    : statistics_{.layers = layers,
                  .experts = experts,
                  .min_count = min_count,
                  .pairs = {},
                  .ids = {},
                  .seen = {},
                  .taken = {}} {
  const std::vector<int64_t> counts = occurrences(documents);
  index_of_.assign(counts.size(), -1);
  for (size_t id = 0; id < counts.size(); ++id) {
    if (counts[id] == 0 || counts[id] < min_count) continue;
    index_of_[id] = static_cast<int32_t>(statistics_.ids.size());
    statistics_.ids.push_back(static_cast<int32_t>(id));
    statistics_.seen.push_back(counts[id]);
  }
  statistics_.pairs.assign(static_cast<size_t>(layers * experts * experts), 0);
  statistics_.taken.assign(static_cast<size_t>(layers * experts) * statistics_.ids.size(), 0);
}

void ChoiceCounter::add(const Batch& batch, std::span<const int32_t> chosen) {
  const size_t tokens = batch.tokens.size();
  const size_t slots = chosen.size() / (static_cast<size_t>(statistics_.layers) * tokens);
  MOE_CHECK(chosen.size() == static_cast<size_t>(statistics_.layers) * tokens * slots);
  for (int64_t layer = 0; layer < statistics_.layers; ++layer) {
    for (size_t t = 0; t < tokens; ++t) {
      if (batch.domain[t] < 0) continue;
      add_token(layer, batch.tokens[t], chosen.subspan((static_cast<size_t>(layer) * tokens + t) * slots, slots));
    }
  }
  statistics_.tokens += batch.num_tokens;
}

void ChoiceCounter::add_token(int64_t layer, int32_t id, std::span<const int32_t> slots) {
  const int64_t experts = statistics_.experts;
  const int64_t index = index_of_[static_cast<size_t>(id)];
  const auto ids = static_cast<int64_t>(statistics_.ids.size());
  for (const int32_t first : slots) {
    if (first < 0) continue;
    if (index >= 0) ++statistics_.taken[static_cast<size_t>((layer * ids + index) * experts + first)];
    int64_t* const row = statistics_.pairs.data() + (layer * experts + first) * experts;
    for (const int32_t second : slots) {
      if (second >= 0) ++row[second];
    }
  }
}

std::vector<ExpertPair> top_pairs(const ChoiceStatistics& statistics, int64_t layer, int64_t count) {
  std::vector<ExpertPair> pairs;
  double all = 0, products = 0;
  for (int64_t first = 0; first < statistics.experts; ++first) {
    for (int64_t second = first + 1; second < statistics.experts; ++second) {
      const int64_t tokens = statistics.pair(layer, first, second);
      const double product = static_cast<double>(statistics.pair(layer, first, first)) *
                             static_cast<double>(statistics.pair(layer, second, second));
      all += static_cast<double>(tokens);
      products += product;
      if (tokens > 0) pairs.push_back({.first = first, .second = second, .tokens = tokens, .expected = product});
    }
  }
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const ExpertPair& a, const ExpertPair& b) { return a.tokens > b.tokens; });
  keep_first(pairs, count);
  for (ExpertPair& pair : pairs) pair.expected *= all / products;
  return pairs;
}

std::vector<TakenToken> top_tokens(const ChoiceStatistics& statistics, int64_t layer, int64_t expert, int64_t count) {
  std::vector<TakenToken> tokens;
  const size_t ids = statistics.ids.size();
  for (size_t i = 0; i < ids; ++i) {
    const size_t row = static_cast<size_t>(layer) * ids + i;
    const uint32_t taken =
        statistics.taken[row * static_cast<size_t>(statistics.experts) + static_cast<size_t>(expert)];
    if (taken == 0) continue;
    tokens.push_back({.id = statistics.ids[i],
                      .seen = statistics.seen[i],
                      .share = static_cast<double>(taken) / static_cast<double>(statistics.seen[i])});
  }
  std::sort(tokens.begin(), tokens.end(), [](const TakenToken& a, const TakenToken& b) {
    return std::tuple(-a.share, -a.seen, a.id) < std::tuple(-b.share, -b.seen, b.id);
  });
  keep_first(tokens, count);
  return tokens;
}

}  // namespace moe
