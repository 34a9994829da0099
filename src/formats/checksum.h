#pragma once
/// CRC-32 checksums, the polynomial of zlib, gzip and PNG: they notice damage by accident, not forgery.

#include <cstddef>
#include <cstdint>
#include <span>

namespace moe {

/// The checksum of bytes that come one piece after the other. For one thread at a time.
class Crc32 {
 public:
  void add(const void* data, size_t bytes);
  uint32_t value() const { return value_; }

 private:
  uint32_t value_ = 0;
};

/// The checksum of all bytes, computed in parts of at least `least_part` bytes on up to eight threads.
uint32_t crc32_of(std::span<const std::byte> bytes, size_t least_part = size_t{16} << 20);

}  // namespace moe
