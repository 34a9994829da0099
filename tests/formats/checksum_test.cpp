// CRC-32 against the definition, bit by bit, for any division into pieces and parts.

#include "formats/checksum.h"

#include <string>

#include <gtest/gtest.h>

#include "base/random.h"
#include "base/thread_start.h"

namespace moe {
namespace {

/// The remainder of the polynomial 0x04c11db7, reflected, with all bits inverted before and after.
uint32_t by_bits(const std::string& bytes) {
  uint32_t remainder = ~uint32_t{0};
  for (const char byte : bytes) {
    remainder ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? 0xedb88320 : 0);
  }
  return ~remainder;
}

std::string drawn(size_t size) {
  const Random random(3, 0);
  std::string bytes;
  for (size_t i = 0; i < size; ++i) bytes.push_back(static_cast<char>(random.bits(i)));
  return bytes;
}

std::span<const std::byte> span_of(const std::string& bytes) { return std::as_bytes(std::span(bytes)); }

TEST(Checksum, IsTheOneOfZlibAndPng) {
  EXPECT_EQ(crc32_of(span_of("123456789")), 0xcbf43926) << "the check value of the published list of CRCs";
  EXPECT_EQ(crc32_of({}), 0u);
}

TEST(Checksum, DoesNotDependOnPiecesNorOnParts) {
  const std::string bytes = drawn(10'007);
  const uint32_t expected = by_bits(bytes);
  for (const size_t piece : {1, 7, 4096, 20'000}) {
    Crc32 sum;
    for (size_t begin = 0; begin < bytes.size(); begin += piece) {
      sum.add(bytes.data() + begin, std::min(piece, bytes.size() - begin));
    }
    EXPECT_EQ(sum.value(), expected) << piece;
  }
  for (const size_t least_part : {1, 100, 3000, 5003, 5004, 10'007, 20'000}) {
    EXPECT_EQ(crc32_of(span_of(bytes), least_part), expected) << least_part;
  }
  fail_thread_starts_after(0);
  EXPECT_EQ(crc32_of(span_of(bytes), 100), expected) << "without a second thread";
  fail_thread_starts_after(-1);
}

TEST(Checksum, ChangesWithEveryBit) {
  std::string bytes = drawn(200);
  const uint32_t before = crc32_of(span_of(bytes));
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    EXPECT_NE(crc32_of(span_of(bytes)), before) << bit;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
  }
}

}  // namespace
}  // namespace moe
