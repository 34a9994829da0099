// Blocks of 32 elements with one scale. Types whose names end in 1 also have one minimum.

#include <algorithm>
#include <cmath>

#include "tensor/blocks/blocks.h"
#include "tensor/blocks/layout.h"

namespace moe {
namespace {

using namespace blocks;

constexpr int kSize = 32, kHalf = 16;

/// Four bits of element i, and its fifth bit where the block has one.
template <class Block>
int code(const Block& block, int i) {
  const int low = i < kHalf ? block.q[static_cast<size_t>(i)] & 15 : block.q[static_cast<size_t>(i - kHalf)] >> 4;
  if constexpr (requires { block.high; }) {
    return low | (block.high[static_cast<size_t>(i / 8)] >> (i % 8) & 1) << 4;
  } else {
    return low;
  }
}

template <class Block>
void set_code(Block& block, int i, int value) {
  auto& byte = block.q[static_cast<size_t>(i % kHalf)];
  byte = static_cast<uint8_t>(byte | (value & 15) << (i < kHalf ? 0 : 4));
  if constexpr (requires { block.high; }) {
    auto& bits = block.high[static_cast<size_t>(i / 8)];
    bits = static_cast<uint8_t>(bits | (value >> 4) << (i % 8));
  }
}

/// 0 if there is no inverse: such a block holds zeros, or one number.
float inverse(float d) { return std::isfinite(1 / d) ? 1 / d : 0.0f; }

/// The integer part, in [0, largest].
int to_code(float x, int largest) {
  if (x >= static_cast<float>(largest)) return largest;
  return x > 0 ? static_cast<int>(x) : 0;
}

/// x = d (q - offset).
template <class Block>
void read_symmetric(const void* from, float* to, int64_t elements, int offset) {
  read_blocks<Block, kSize>(from, to, elements, [=](const Block& block, float* x) {
    const float d = to_float(block.d);
    for (int i = 0; i < kSize; ++i) x[i] = d * static_cast<float>(code(block, i) - offset);
  });
}

/// The number with the largest magnitude (the first of them) becomes q = 0, because there is one more code on its side.
template <class Block>
void write_symmetric(const float* from, void* to, int64_t elements, int offset) {
  write_blocks<Block, kSize>(from, to, elements, [=](const float* x) {
    const float largest = *std::max_element(x, x + kSize, [](float a, float b) { return std::abs(a) < std::abs(b); });
    const float d = largest / static_cast<float>(-offset), scale = inverse(d);
    Block block{};
    block.d = to_f16(d);
    for (int i = 0; i < kSize; ++i) {
      // Like the definition's fused multiplication and addition: rounded once, to f32.
      const double sum = static_cast<double>(x[i]) * static_cast<double>(scale) + offset + 0.5;
      set_code(block, i, to_code(static_cast<float>(sum), 2 * offset - 1));
    }
    return block;
  });
}

/// x = d q + m.
template <class Block>
void read_affine(const void* from, float* to, int64_t elements) {
  read_blocks<Block, kSize>(from, to, elements, [](const Block& block, float* x) {
    const float d = to_float(block.d), m = to_float(block.m);
    for (int i = 0; i < kSize; ++i) x[i] = d * static_cast<float>(code(block, i)) + m;
  });
}

template <class Block>
void write_affine(const float* from, void* to, int64_t elements, int largest_code) {
  write_blocks<Block, kSize>(from, to, elements, [=](const float* x) {
    const auto [least, most] = std::minmax_element(x, x + kSize);
    const float m = *least, d = (*most - m) / static_cast<float>(largest_code), scale = inverse(d);
    Block block{};
    block.d = to_f16(d);
    block.m = to_f16(m);
    for (int i = 0; i < kSize; ++i) {
      set_code(block, i, to_code((x[i] - m) * scale + 0.5f, largest_code));
    }
    return block;
  });
}

}  // namespace

void q8_0_to_floats(const void* from, float* to, int64_t elements) {
  read_blocks<Q8_0, kSize>(from, to, elements, [](const Q8_0& block, float* x) {
    const float d = to_float(block.d);
    for (size_t i = 0; i < kSize; ++i) x[i] = static_cast<float>(block.q[i]) * d;
  });
}

void floats_to_q8_0(const float* from, void* to, int64_t elements) {
  write_blocks<Q8_0, kSize>(from, to, elements, [](const float* x) {
    float largest = 0;
    for (int i = 0; i < kSize; ++i) largest = std::max(largest, std::abs(x[i]));
    const float d = largest / 127, scale = inverse(d);
    Q8_0 block{};
    block.d = to_f16(d);
    for (size_t i = 0; i < kSize; ++i) {
      const float q = std::round(x[i] * scale);
      block.q[i] = static_cast<int8_t>(std::abs(q) <= 127 ? q : 0);  // 0: no number
    }
    return block;
  });
}

void q4_0_to_floats(const void* from, float* to, int64_t elements) { read_symmetric<Q4_0>(from, to, elements, 8); }
void floats_to_q4_0(const float* from, void* to, int64_t elements) { write_symmetric<Q4_0>(from, to, elements, 8); }
void q5_0_to_floats(const void* from, float* to, int64_t elements) { read_symmetric<Q5_0>(from, to, elements, 16); }
void floats_to_q5_0(const float* from, void* to, int64_t elements) { write_symmetric<Q5_0>(from, to, elements, 16); }
void q4_1_to_floats(const void* from, float* to, int64_t elements) { read_affine<Q4_1>(from, to, elements); }
void floats_to_q4_1(const float* from, void* to, int64_t elements) { write_affine<Q4_1>(from, to, elements, 15); }
void q5_1_to_floats(const void* from, float* to, int64_t elements) { read_affine<Q5_1>(from, to, elements); }
void floats_to_q5_1(const float* from, void* to, int64_t elements) { write_affine<Q5_1>(from, to, elements, 31); }

}  // namespace moe
