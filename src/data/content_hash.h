#pragma once
/// A fingerprint of the documents' content: their ids, their ends, and their order.

#include <bit>
#include <cstdint>
#include <span>

namespace moe {

/// Add documents one after the other. The division into shards does not matter. It does not protect against forgery.
/// For one thread at a time.
class ContentHash {
 public:
  void add_tokens(std::span<const int32_t> ids) {
    for (const int32_t id : ids) mix(static_cast<uint32_t>(id));
  }
  /// Whether each token of the document is learned; only for datasets that say it.
  void add_marks(std::span<const uint8_t> marks) {
    for (const uint8_t mark : marks) mix(kMark | mark);
  }
  /// No id has this value, so the fingerprint changes if the end of a document moves.
  void end_document() { mix(kEnd); }

  uint64_t value() const {
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

 private:
  static constexpr uint64_t kEnd = uint64_t{1} << 40;
  static constexpr uint64_t kMark = uint64_t{1} << 41;
  void mix(uint64_t value) { state_ = (std::rotl(state_, 23) ^ value) * 0x9e3779b97f4a7c15; }

  uint64_t state_ = 0x6d6f652064617461;
};

}  // namespace moe
