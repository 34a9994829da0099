#pragma once
/// Remembers the ids of short pieces of text, in a table of fixed size. A new piece replaces the one in its place. Use
/// it on one thread at a time.

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace moe {

class PieceCache {
 public:
  static constexpr size_t kMaxPiece = 25;
  static constexpr size_t kMaxIds = 9;

  PieceCache() : entries_(size_t{1} << kBits) {}

  /// The ids of `piece` for split `stage`; nothing if they are not known. `piece` has 1 to kMaxPiece bytes.
  std::optional<std::span<const int32_t>> find(size_t stage, std::string_view piece) const {
    const Entry& entry = entries_[slot(stage, piece)];
    if (entry.size != piece.size() || entry.stage != stage ||
        std::memcmp(entry.piece, piece.data(), piece.size()) != 0) {
      return std::nullopt;
    }
    return std::span(entry.ids, entry.count);
  }

  void insert(size_t stage, std::string_view piece, std::span<const int32_t> ids) {
    if (ids.size() > kMaxIds || stage > UINT8_MAX) return;
    Entry& entry = entries_[slot(stage, piece)];
    entry.size = static_cast<uint8_t>(piece.size());
    entry.stage = static_cast<uint8_t>(stage);
    entry.count = static_cast<uint8_t>(ids.size());
    std::memcpy(entry.piece, piece.data(), piece.size());
    std::memcpy(entry.ids, ids.data(), ids.size_bytes());
  }

 private:
  static constexpr int kBits = 15;

  struct alignas(64) Entry {
    uint8_t size = 0;
    uint8_t stage = 0;
    uint8_t count = 0;
    char piece[kMaxPiece];
    int32_t ids[kMaxIds];
  };
  static_assert(sizeof(Entry) == 64, "one cache line");

  static size_t slot(size_t stage, std::string_view piece) {
    uint64_t hash = stage * 0x9E3779B97F4A7C15u ^ piece.size();
    size_t at = 0;
    for (; at + 8 <= piece.size(); at += 8) hash = mix(hash, load(piece.data() + at, 8));
    return mix(hash, load(piece.data() + at, piece.size() - at)) >> (64 - kBits);
  }

  static uint64_t load(const char* bytes, size_t size) {
    uint64_t word = 0;
    std::memcpy(&word, bytes, size);
    return word;
  }

  static uint64_t mix(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0xD6E8FEB86659FD93u;
    return hash ^ hash >> 32;
  }

  std::vector<Entry> entries_;
};

}  // namespace moe
