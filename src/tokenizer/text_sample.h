#pragma once
/// A sample of documents that depends on the documents alone: neither on their order nor on how they are handed out.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moe {

/// Holds documents of at most `max_bytes` in all: those with the smallest hashes, so that every file gives about its
/// share.
class TextSample {
 public:
  explicit TextSample(uint64_t max_bytes) : max_bytes_(max_bytes) {}

  void add(std::string_view text);
  uint64_t bytes() const { return bytes_; }
  /// Some document was left out.
  bool dropped() const { return dropped_; }
  /// The documents, in no particular order; none are left here.
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
  std::vector<Entry> heap_;  // the largest hash first
};

}  // namespace moe
