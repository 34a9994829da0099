#pragma once
/// Several lists of documents as one.

#include <vector>

#include "data/documents.h"

namespace moe {

/// The documents of `parts`, one part after the other. The parts must outlive it. Parts with a domain of the same name
/// share the domain. Several threads may read it if they may read the parts.
class JoinedDocuments : public Documents {
 public:
  explicit JoinedDocuments(std::vector<const Documents*> parts);

  int64_t count() const override { return first_.back(); }
  int64_t length(int64_t document) const override;
  int32_t domain(int64_t document) const override;
  int64_t text_bytes(int64_t document) const override;
  void copy_tokens(int64_t document, int64_t begin, int64_t count, int32_t* out) const override;
  bool has_marks() const override;
  void copy_marks(int64_t document, int64_t begin, int64_t count, uint8_t* out) const override;
  const std::vector<std::string>& domain_names() const override { return names_; }

  /// The first document of a part.
  int64_t first_of(size_t part) const { return first_[part]; }

 private:
  /// The part that holds a document.
  size_t part_of(int64_t document) const;

  std::vector<const Documents*> parts_;
  std::vector<int64_t> first_ = {0};           // first document of each part, and one more entry for the end
  std::vector<std::vector<int32_t>> domains_;  // for each part and each of its domains: index into names_
  std::vector<std::string> names_;
};

}  // namespace moe
