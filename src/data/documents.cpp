#include "data/documents.h"

#include <algorithm>

#include "base/error.h"

namespace moe {

void Documents::copy_marks(int64_t document, int64_t begin, int64_t count, uint8_t* out) const {
  MOE_CHECK(begin >= 0 && count >= 0 && begin + count <= length(document));
  std::fill_n(out, count, uint8_t{1});
}

int64_t count_targets(const Documents& documents, int64_t document) {
  const int64_t behind_first = std::max<int64_t>(documents.length(document) - 1, 0);
  if (!documents.has_marks() || behind_first == 0) return behind_first;
  std::vector<uint8_t> marks(static_cast<size_t>(behind_first));
  documents.copy_marks(document, 1, behind_first, marks.data());
  return std::count(marks.begin(), marks.end(), uint8_t{1});
}

int32_t MemoryDocuments::add_domain(const std::string& name) {
  const auto found = std::find(domain_names_.begin(), domain_names_.end(), name);
  if (found == domain_names_.end()) domain_names_.push_back(name);
  return static_cast<int32_t>(std::find(domain_names_.begin(), domain_names_.end(), name) - domain_names_.begin());
}

void MemoryDocuments::add(std::vector<int32_t> tokens, int32_t domain, int64_t text_bytes) {
  add(std::move(tokens), {}, domain, text_bytes);
}

void MemoryDocuments::add(std::vector<int32_t> tokens, std::vector<uint8_t> marks, int32_t domain, int64_t text_bytes) {
  MOE_CHECK(domain >= 0 && static_cast<size_t>(domain) < domain_names_.size());
  MOE_CHECK(marks.empty() || marks.size() == tokens.size());
  has_marks_ = has_marks_ || !marks.empty();
  documents_.push_back({std::move(tokens), std::move(marks), domain, text_bytes});
}

void MemoryDocuments::copy_marks(int64_t document, int64_t begin, int64_t count, uint8_t* out) const {
  const auto& marks = at(document).marks;
  if (marks.empty()) return Documents::copy_marks(document, begin, count, out);
  MOE_CHECK(begin >= 0 && count >= 0 && begin + count <= static_cast<int64_t>(marks.size()));
  std::copy_n(marks.begin() + begin, count, out);
}

void MemoryDocuments::copy_tokens(int64_t document, int64_t begin, int64_t count, int32_t* out) const {
  const auto& tokens = at(document).tokens;
  MOE_CHECK(begin >= 0 && count >= 0 && begin + count <= static_cast<int64_t>(tokens.size()));
  std::copy_n(tokens.begin() + begin, count, out);
}

}  // namespace moe
