#include "data/joined_documents.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace moe {

JoinedDocuments::JoinedDocuments(std::vector<const Documents*> parts) : parts_(std::move(parts)) {
  for (const Documents* part : parts_) {
    first_.push_back(first_.back() + part->count());
    std::vector<int32_t> domains;
    for (const std::string& name : part->domain_names()) {
      const auto found = std::find(names_.begin(), names_.end(), name);
      domains.push_back(static_cast<int32_t>(found - names_.begin()));
      if (found == names_.end()) names_.push_back(name);
    }
    domains_.push_back(std::move(domains));
  }
}

size_t JoinedDocuments::part_of(int64_t document) const {
  MOE_CHECK(document >= 0 && document < count());
  return static_cast<size_t>(std::upper_bound(first_.begin(), first_.end(), document) - first_.begin() - 1);
}

int64_t JoinedDocuments::length(int64_t document) const {
  const size_t part = part_of(document);
  return parts_[part]->length(document - first_[part]);
}

int32_t JoinedDocuments::domain(int64_t document) const {
  const size_t part = part_of(document);
  return domains_[part][static_cast<size_t>(parts_[part]->domain(document - first_[part]))];
}

int64_t JoinedDocuments::text_bytes(int64_t document) const {
  const size_t part = part_of(document);
  return parts_[part]->text_bytes(document - first_[part]);
}

void JoinedDocuments::copy_tokens(int64_t document, int64_t begin, int64_t count, int32_t* out) const {
  const size_t part = part_of(document);
  parts_[part]->copy_tokens(document - first_[part], begin, count, out);
}

bool JoinedDocuments::has_marks() const {
  return std::any_of(parts_.begin(), parts_.end(), [](const Documents* part) { return part->has_marks(); });
}

void JoinedDocuments::copy_marks(int64_t document, int64_t begin, int64_t count, uint8_t* out) const {
  const size_t part = part_of(document);
  parts_[part]->copy_marks(document - first_[part], begin, count, out);
}

}  // namespace moe
