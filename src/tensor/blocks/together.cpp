// Four blocks of 32 elements together, as kernels of GPUs read them.

#include <vector>

#include "tensor/blocks/blocks.h"
#include "tensor/blocks/layout.h"

namespace moe {
namespace {

using namespace blocks;

constexpr int64_t kBlocks = 4, kSize = 32, kElements = kBlocks * kSize;

/// The place of the four bits of element i of block b: byte, and how far up in it.
struct Place {
  size_t byte;
  int shift;
};
Place place_of(size_t block, size_t i) {
  const size_t word = 8 * (block / 2) + 2 * (i / 8) + block % 2, four_bits = i % 8 / 2 + 4 * (i % 2);
  return {4 * word + four_bits / 2, static_cast<int>(four_bits % 2 * 4)};
}

/// The place of element i in the bytes of q8_0x4, and the other way round.
size_t swapped(size_t i) { return i % 4 == 1 ? i + 1 : i % 4 == 2 ? i - 1 : i; }

/// Calls move(four blocks, result) for all elements.
template <class From, class To, class Move>
void rearrange(const void* from, void* to, int64_t elements, Move move) {
  for (int64_t i = 0; i < elements / kElements; ++i) {
    std::array<From, kBlocks> four;
    std::memcpy(four.data(), static_cast<const From*>(from) + i * kBlocks, sizeof(four));
    To together{};
    for (size_t b = 0; b < kBlocks; ++b) together.d[b] = four[b].d;
    move(four, together);
    std::memcpy(static_cast<char*>(to) + i * static_cast<int64_t>(sizeof(To)), &together, sizeof(To));
  }
}

/// Quantises as the type of single blocks does.
template <class Block>
void from_floats(const float* from, void* to, int64_t elements, void (*quantise)(const float*, void*, int64_t),
                 void (*together)(const void*, void*, int64_t)) {
  std::vector<Block> single(static_cast<size_t>(elements / kSize));
  quantise(from, single.data(), elements);
  together(single.data(), to, elements);
}

}  // namespace

void q8_0_to_q8_0x4(const void* from, void* to, int64_t elements) {
  rearrange<Q8_0, Q8_0x4>(from, to, elements, [](const auto& four, Q8_0x4& together) {
    for (size_t b = 0; b < kBlocks; ++b) {
      for (size_t i = 0; i < kSize; ++i) together.q[b * kSize + swapped(i)] = four[b].q[i];
    }
  });
}

void q4_0_to_q4_0x4(const void* from, void* to, int64_t elements) {
  rearrange<Q4_0, Q4_0x4>(from, to, elements, [](const auto& four, Q4_0x4& together) {
    for (size_t b = 0; b < kBlocks; ++b) {
      for (size_t i = 0; i < kSize; ++i) {
        const uint8_t byte = four[b].q[i % 16];
        const int code = i < 16 ? byte & 15 : byte >> 4;
        const auto [at, shift] = place_of(b, i);
        together.q[at] = static_cast<uint8_t>(together.q[at] | code << shift);
      }
    }
  });
}

void q8_0x4_to_floats(const void* from, float* to, int64_t elements) {
  read_blocks<Q8_0x4, kElements>(from, to, elements, [](const Q8_0x4& four, float* x) {
    for (size_t i = 0; i < kElements; ++i) x[i] = static_cast<float>(four.q[swapped(i)]) * to_float(four.d[i / kSize]);
  });
}

void q4_0x4_to_floats(const void* from, float* to, int64_t elements) {
  read_blocks<Q4_0x4, kElements>(from, to, elements, [](const Q4_0x4& four, float* x) {
    for (size_t b = 0; b < kBlocks; ++b) {
      const float d = to_float(four.d[b]);
      for (size_t i = 0; i < kSize; ++i) {
        const auto [at, shift] = place_of(b, i);
        x[b * kSize + i] = d * static_cast<float>((four.q[at] >> shift & 15) - 8);
      }
    }
  });
}

void floats_to_q8_0x4(const float* from, void* to, int64_t elements) {
  from_floats<Q8_0>(from, to, elements, floats_to_q8_0, q8_0_to_q8_0x4);
}
void floats_to_q4_0x4(const float* from, void* to, int64_t elements) {
  from_floats<Q4_0>(from, to, elements, floats_to_q4_0, q4_0_to_q4_0x4);
}

}  // namespace moe
