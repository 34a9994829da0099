#pragma once
/// Documents as token ids, which rows are packed from.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace moe {

/// A fixed list of tokenised documents. Document d has length(d) tokens, with special tokens: one BOS before the text
/// and one EOS after it, if the tokenizer has them. Several threads may read it at once.
class Documents {
 public:
  virtual ~Documents() = default;
  virtual int64_t count() const = 0;
  virtual int64_t length(int64_t document) const = 0;
  /// Index into domain_names().
  virtual int32_t domain(int64_t document) const = 0;
  /// The bytes of UTF-8 text that the document's targets stand for. Bits per byte are divided by them
  /// (data/scored_text.h).
  virtual int64_t text_bytes(int64_t document) const = 0;
  /// Copies tokens [begin, begin + count) of a document.
  virtual void copy_tokens(int64_t document, int64_t begin, int64_t count, int32_t* out) const = 0;
  /// True if some documents have tokens that are read but not learned (prompts of conversations).
  virtual bool has_marks() const { return false; }
  /// Copies whether tokens [begin, begin + count) of a document are learned, as targets: 1 or 0.
  virtual void copy_marks(int64_t document, int64_t begin, int64_t count, uint8_t* out) const;
  virtual const std::vector<std::string>& domain_names() const = 0;
};

/// The targets of a document: its learned tokens behind the first token, which nothing predicts.
int64_t count_targets(const Documents& documents, int64_t document);

/// Documents in memory, for the evaluation of text files and for tests.
/// Several threads may read it when it is complete.
class MemoryDocuments : public Documents {
 public:
  /// Returns the index of the domain. Adds a new domain.
  int32_t add_domain(const std::string& name);
  void add(std::vector<int32_t> tokens, int32_t domain, int64_t text_bytes);
  /// `marks`, one per token, are those of copy_marks().
  void add(std::vector<int32_t> tokens, std::vector<uint8_t> marks, int32_t domain, int64_t text_bytes);

  int64_t count() const override { return static_cast<int64_t>(documents_.size()); }
  int64_t length(int64_t document) const override { return static_cast<int64_t>(at(document).tokens.size()); }
  int32_t domain(int64_t document) const override { return at(document).domain; }
  int64_t text_bytes(int64_t document) const override { return at(document).text_bytes; }
  void copy_tokens(int64_t document, int64_t begin, int64_t count, int32_t* out) const override;
  bool has_marks() const override { return has_marks_; }
  void copy_marks(int64_t document, int64_t begin, int64_t count, uint8_t* out) const override;
  const std::vector<std::string>& domain_names() const override { return domain_names_; }

 private:
  struct Document {
    std::vector<int32_t> tokens;
    std::vector<uint8_t> marks;  // empty: all are learned
    int32_t domain;
    int64_t text_bytes;
  };
  const Document& at(int64_t document) const { return documents_[static_cast<size_t>(document)]; }

  std::vector<Document> documents_;
  bool has_marks_ = false;
  std::vector<std::string> domain_names_;
};

/// Documents 0, n, 2 n, ... of other documents, which must outlive it; with `block`, blocks of so many documents.
/// Several threads may read it if they may read `all`.
class EveryNth : public Documents {
 public:
  EveryNth(const Documents& all, int64_t n, int64_t block = 1) : all_(all), n_(n), block_(block) {}

  /// The number of a document among all.
  int64_t original(int64_t document) const { return document / block_ * n_ * block_ + document % block_; }
  int64_t count() const override { return (all_.count() / block_ + n_ - 1) / n_ * block_; }
  int64_t length(int64_t document) const override { return all_.length(original(document)); }
  int32_t domain(int64_t document) const override { return all_.domain(original(document)); }
  int64_t text_bytes(int64_t document) const override { return all_.text_bytes(original(document)); }
  void copy_tokens(int64_t document, int64_t begin, int64_t count, int32_t* out) const override {
    all_.copy_tokens(original(document), begin, count, out);
  }
  bool has_marks() const override { return all_.has_marks(); }
  void copy_marks(int64_t document, int64_t begin, int64_t count, uint8_t* out) const override {
    all_.copy_marks(original(document), begin, count, out);
  }
  const std::vector<std::string>& domain_names() const override { return all_.domain_names(); }

 private:
  const Documents& all_;
  int64_t n_, block_;
};

}  // namespace moe
