#include "eval/domain_starts.h"

#include <algorithm>
#include <numeric>

namespace moe {
namespace {

/// How many tokens each domain gives, if they have `sizes` and are to give `most` together.
std::vector<int64_t> equal_parts(const std::vector<int64_t>& sizes, int64_t most) {
  std::vector<size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return sizes[a] < sizes[b]; });
  std::vector<int64_t> parts(sizes.size());
  auto left_domains = static_cast<int64_t>(sizes.size());
  for (const size_t domain : order) {
    parts[domain] = std::min(sizes[domain], most / left_domains--);
    most -= parts[domain];
  }
  return parts;
}

}  // namespace

DomainStarts::DomainStarts(const Documents& all, int64_t most_tokens) : all_(all) {
  std::vector<int64_t> sizes(all.domain_names().size(), 0);
  for (int64_t document = 0; document < all.count(); ++document) {
    sizes[static_cast<size_t>(all.domain(document))] += all.length(document);
  }
  std::vector<int64_t> left = equal_parts(sizes, most_tokens);
  for (int64_t document = 0; document < all.count(); ++document) {
    int64_t& of_domain = left[static_cast<size_t>(all.domain(document))];
    const int64_t length = std::min(of_domain, all.length(document));
    if (length == 0) continue;
    parts_.push_back({.document = document, .length = length});
    of_domain -= length;
    tokens_ += length;
  }
}

}  // namespace moe
