#include "eval/domain_starts.h"

#include <algorithm>
#include <numeric>

namespace moe {
namespace {

/// How much each of some parties gives if they have `sizes` and are to give `most` together: equally much, or all it
/// has.
std::vector<int64_t> equal_parts(const std::vector<int64_t>& sizes, int64_t most) {
  std::vector<size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return sizes[a] < sizes[b]; });
  std::vector<int64_t> parts(sizes.size());
  auto others = static_cast<int64_t>(sizes.size());
  for (const size_t at : order) {
    parts[at] = std::min(sizes[at], most / others--);
    most -= parts[at];
  }
  return parts;
}

}  // namespace

DomainStarts::DomainStarts(const Documents& all, int64_t most_tokens, int64_t row) : all_(all) {
  std::vector<std::vector<int64_t>> documents(all.domain_names().size());
  std::vector<int64_t> sizes(documents.size(), 0);
  for (int64_t document = 0; document < all.count(); ++document) {
    const auto domain = static_cast<size_t>(all.domain(document));
    documents[domain].push_back(document);
    sizes[domain] += all.length(document);
  }
  const std::vector<int64_t> tokens = equal_parts(sizes, most_tokens);
  for (size_t domain = 0; domain < documents.size(); ++domain) {
    std::vector<int64_t> lengths;
    for (int64_t filled = 0; filled < tokens[domain] && lengths.size() < documents[domain].size();) {
      lengths.push_back(all.length(documents[domain][lengths.size()]));
      filled += std::min(lengths.back(), row);
    }
    const std::vector<int64_t> parts = equal_parts(lengths, tokens[domain]);
    for (size_t i = 0; i < parts.size(); ++i) {
      if (parts[i] > 0) parts_.push_back({.document = documents[domain][i], .length = parts[i]});
    }
    tokens_ += tokens[domain];
  }
  std::sort(parts_.begin(), parts_.end(), [](const Part& a, const Part& b) { return a.document < b.document; });
}

}  // namespace moe
