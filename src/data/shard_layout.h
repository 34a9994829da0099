#pragma once
/// The constants of the shard format, for its writer and its reader (data/shards.h describes the format).

#include <bit>
#include <cstdint>
#include <string>

#include <fmt/format.h>

namespace moe::shard_layout {

static_assert(std::endian::native == std::endian::little, "shards are mapped without swapping bytes");

constexpr char kMagic[9] = "MOETOKEN";
constexpr uint32_t kVersion = 1;
constexpr uint32_t kMarkedVersion = 2;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t id_bytes;
};

struct Trailer {
  uint64_t documents;
  uint64_t ids;
  uint64_t tokenizer_fingerprint;
  char magic[8];
};

constexpr uint32_t id_bytes_of(int64_t vocab_size) { return vocab_size <= 65536 ? 2 : 4; }
constexpr uint64_t padded(uint64_t bytes) { return (bytes + 7) / 8 * 8; }

/// "sixteen hexadecimal digits", as dataset.json spells a fingerprint.
inline std::string fingerprint_text(uint64_t fingerprint) { return fmt::format("{:016x}", fingerprint); }

constexpr const char* kDescription = "dataset.json";
constexpr int kDatasetVersion = 1;

}  // namespace moe::shard_layout
