#include "data/documents.h"

#include <algorithm>

#include "base/error.h"

namespace moe {

int32_t MemoryDocuments::add_domain(const std::string& name) {
  const auto found = std::find(domain_names_.begin(), domain_names_.end(), name);
  if (found == domain_names_.end()) domain_names_.push_back(name);
  return static_cast<int32_t>(std::find(domain_names_.begin(), domain_names_.end(), name) - domain_names_.begin());
}

void MemoryDocuments::add(std::vector<int32_t> tokens, int32_t domain, int64_t text_bytes) {
  MOE_CHECK(domain >= 0 && static_cast<size_t>(domain) < domain_names_.size());
  documents_.push_back({std::move(tokens), domain, text_bytes});
}

void MemoryDocuments::copy_tokens(int64_t document, int64_t begin, int64_t count, int32_t* out) const {
  const auto& tokens = at(document).tokens;
  MOE_CHECK(begin >= 0 && count >= 0 && begin + count <= static_cast<int64_t>(tokens.size()));
  std::copy_n(tokens.begin() + begin, count, out);
}

}  // namespace moe
