#pragma once
/// The beginnings of some documents of each domain, for a measurement that needs many passes over the same text.

#include "data/documents.h"

namespace moe {

/// The beginnings of documents, `most_tokens` tokens in all: every domain gives equally many, and what a domain does
/// not have the others give. A domain gives the beginnings of its first documents, equally long ones as far as they are
/// long enough. They are up to `row` tokens long, so that many documents have a part; they are longer if all of its
/// documents are used. text_bytes() is that of the whole document. The order is that of `all`, which must outlive it.
/// Several threads may read it if they may read `all`.
class DomainStarts : public Documents {
 public:
  DomainStarts(const Documents& all, int64_t most_tokens, int64_t row);

  int64_t tokens() const { return tokens_; }
  int64_t count() const override { return static_cast<int64_t>(parts_.size()); }
  int64_t length(int64_t document) const override { return at(document).length; }
  int32_t domain(int64_t document) const override { return all_.domain(at(document).document); }
  int64_t text_bytes(int64_t document) const override { return all_.text_bytes(at(document).document); }
  void copy_tokens(int64_t document, int64_t begin, int64_t count, int32_t* out) const override {
    all_.copy_tokens(at(document).document, begin, count, out);
  }
  bool has_marks() const override { return all_.has_marks(); }
  void copy_marks(int64_t document, int64_t begin, int64_t count, uint8_t* out) const override {
    all_.copy_marks(at(document).document, begin, count, out);
  }
  const std::vector<std::string>& domain_names() const override { return all_.domain_names(); }

 private:
  struct Part {
    int64_t document;  // of all_
    int64_t length;
  };
  const Part& at(int64_t document) const { return parts_[static_cast<size_t>(document)]; }

  const Documents& all_;
  std::vector<Part> parts_;
  int64_t tokens_ = 0;
};

}  // namespace moe
