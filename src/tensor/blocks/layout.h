#pragma once
/// The layout of blocks in memory, byte by byte, and the f16 numbers in them.

#include <array>
#include <cstdint>
#include <cstring>

#include "base/float16.h"

namespace moe::blocks {

struct Q8_0 {
  f16 d;
  std::array<int8_t, 32> q;
};
/// Byte i holds elements i (low four bits) and i + 16.
struct Q4_0 {
  f16 d;
  std::array<uint8_t, 16> q;
};
struct Q4_1 {
  f16 d, m;
  std::array<uint8_t, 16> q;
};
/// The fifth bit of element i is bit i of the 32 in `high`.
struct Q5_0 {
  f16 d;
  std::array<uint8_t, 4> high;
  std::array<uint8_t, 16> q;
};
struct Q5_1 {
  f16 d, m;
  std::array<uint8_t, 4> high;
  std::array<uint8_t, 16> q;
};
/// Parts 2g and 2g + 1 are the low and the high four bits of bytes [32 g, 32 g + 32).
struct Q4K {
  f16 d, dmin;
  std::array<uint8_t, 12> scales;
  std::array<uint8_t, 128> q;
};
/// The fifth bit of element i of part p is bit p of high[i].
struct Q5K {
  f16 d, dmin;
  std::array<uint8_t, 12> scales;
  std::array<uint8_t, 32> high;
  std::array<uint8_t, 128> q;
};
/// In each half of 128 elements there are four runs of 32. Run r has its low four bits in bytes [32 (r % 2), ...) of
/// the half's 64 (the low bits of the bytes for r < 2), and its two high bits at bit 2 r of the half's 32 bytes of
/// `high`.
struct Q6K {
  std::array<uint8_t, 128> low;
  std::array<uint8_t, 64> high;
  std::array<int8_t, 16> scales;
  f16 d;
};
/// Four blocks of q8_0. Words of four bytes hold four elements in the order 0, 2, 1, 3.
struct Q8_0x4 {
  std::array<f16, 4> d;
  std::array<int8_t, 128> q;
};
/// Four blocks of q4_0, as 16 words of four bytes. A word holds eight elements of one block. Words 0, 2, 4 and 6 are
/// block 0, words 1, 3, 5 and 7 are block 1; the other eight words are blocks 2 and 3 in the same way. A word has eight
/// places of four bits, the lowest first. Places 0 to 3 hold its elements 0, 2, 4, 6, and places 4 to 7 hold 1, 3,
/// 5, 7.
struct Q4_0x4 {
  std::array<f16, 4> d;
  std::array<uint8_t, 64> q;
};
/// Byte i holds elements 2 i (high four bits) and 2 i + 1.
struct Nf4 {
  float scale;
  std::array<uint8_t, 32> q;
};
static_assert(sizeof(Nf4) == 36 && sizeof(Q8_0x4) == 136 && sizeof(Q4_0x4) == 72);
static_assert(sizeof(Q8_0) == 34 && sizeof(Q4_0) == 18 && sizeof(Q4_1) == 20 && sizeof(Q5_0) == 22 &&
              sizeof(Q5_1) == 24 && sizeof(Q4K) == 144 && sizeof(Q5K) == 176 && sizeof(Q6K) == 210);

/// Calls convert(block, numbers) for each block of `size` elements.
template <class Block, int64_t size, class Convert>
void read_blocks(const void* from, float* to, int64_t elements, Convert convert) {
  for (int64_t i = 0; i < elements / size; ++i) {
    Block block;
    std::memcpy(&block, static_cast<const char*>(from) + i * static_cast<int64_t>(sizeof(Block)), sizeof(Block));
    convert(block, to + i * size);
  }
}

/// Stores convert(numbers) for each block.
template <class Block, int64_t size, class Convert>
void write_blocks(const float* from, void* to, int64_t elements, Convert convert) {
  for (int64_t i = 0; i < elements / size; ++i) {
    const Block block = convert(from + i * size);
    std::memcpy(static_cast<char*>(to) + i * static_cast<int64_t>(sizeof(Block)), &block, sizeof(Block));
  }
}

}  // namespace moe::blocks
