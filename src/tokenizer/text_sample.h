#pragma once
/// A sample of documents that depends only on the documents, neither on their order nor on how they are passed.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moe {

/// Holds documents of at most `max_bytes` together: those with the smallest hashes, so that every file gives about its
/// share. For one thread at a time.
class TextSample {
 public:
  explicit TextSample(uint64_t max_bytes) : max_bytes_(max_bytes) {}

  void add(std::string_view text);
  uint64_t bytes() const { return bytes_; }
  /// True if a document was left out.
  bool dropped() const { return dropped_; }
  /// The documents, in no particular order. The sample is empty afterwards.
  std::vector<std::string> take();

 private:
  struct Entry {
    uint64_t hash;
    std::string text;
    bool operator<(const Entry& other) const { return hash != other.hash ? hash < other.hash : text < other.text; }
  };

  uint64_t max_bytes_;
  uint64_t bytes_ = 0;
  bool dropped_ = false;
  std::vector<Entry> heap_;  // the largest hash is first
};

}  // namespace moe
