// Blocks of 256 elements. Each part has a scale of its own, which is a multiple of the block's scale.

#include <algorithm>
#include <cmath>

#include "tensor/blocks/blocks.h"
#include "tensor/blocks/k_search.h"
#include "tensor/blocks/layout.h"

namespace moe {
namespace {

using namespace blocks;

constexpr int kSize = 256, kParts = 8, kPart = 32, kSixBits = 63;

/// Scale and minimum of each part, 6 bits each. Bytes 0-3 and 4-7: those of parts 0 to 3, and in their two high bits
/// the high bits of parts 4 to 7; bytes 8-11: the low four bits of parts 4 to 7, scale and minimum.
struct Scales {
  std::array<int, kParts> scale{}, minimum{};
};

Scales unpack(const std::array<uint8_t, 12>& bytes) {
  Scales result;
  for (size_t p = 0; p < 4; ++p) {
    result.scale[p] = bytes[p] & 63;
    result.minimum[p] = bytes[p + 4] & 63;
    result.scale[p + 4] = (bytes[p + 8] & 15) | (bytes[p] >> 6) << 4;
    result.minimum[p + 4] = bytes[p + 8] >> 4 | (bytes[p + 4] >> 6) << 4;
  }
  return result;
}

std::array<uint8_t, 12> pack(const Scales& scales) {
  std::array<uint8_t, 12> bytes{};
  for (size_t p = 0; p < 4; ++p) {
    const int scale = scales.scale[p + 4], minimum = scales.minimum[p + 4];
    bytes[p] = static_cast<uint8_t>(scales.scale[p] | (scale >> 4) << 6);
    bytes[p + 4] = static_cast<uint8_t>(scales.minimum[p] | (minimum >> 4) << 6);
    bytes[p + 8] = static_cast<uint8_t>((scale & 15) | (minimum & 15) << 4);
  }
  return bytes;
}

template <class Block>
int code(const Block& block, int part, int i) {
  const auto byte = block.q[static_cast<size_t>(part / 2 * kPart + i)];
  const int low = part % 2 == 0 ? byte & 15 : byte >> 4;
  if constexpr (requires { block.high; }) {
    return low | (block.high[static_cast<size_t>(i)] >> part & 1) << 4;
  } else {
    return low;
  }
}

template <class Block>
void set_code(Block& block, int part, int i, int value) {
  auto& byte = block.q[static_cast<size_t>(part / 2 * kPart + i)];
  byte = static_cast<uint8_t>(byte | (value & 15) << (part % 2 == 0 ? 0 : 4));
  if constexpr (requires { block.high; }) {
    auto& bits = block.high[static_cast<size_t>(i)];
    bits = static_cast<uint8_t>(bits | (value >> 4) << part);
  }
}

template <class Block>
void read_lines(const void* from, float* to, int64_t elements) {
  read_blocks<Block, kSize>(from, to, elements, [](const Block& block, float* x) {
    const float d = to_float(block.d), dmin = to_float(block.dmin);
    const Scales scales = unpack(block.scales);
    for (int part = 0; part < kParts; ++part) {
      const auto p = static_cast<size_t>(part);
      const float step = d * static_cast<float>(scales.scale[p]), floor = dmin * static_cast<float>(scales.minimum[p]);
      for (int i = 0; i < kPart; ++i) x[part * kPart + i] = step * static_cast<float>(code(block, part, i)) - floor;
    }
  });
}

/// `value` as a multiple of `unit`, from 0 to 63.
int multiple(float value, float unit) {
  return unit > 0 ? std::clamp(static_cast<int>(std::lrint(value / unit)), 0, kSixBits) : 0;
}

/// Tries neighbouring multiples that make a part's error smaller, until there are none.
void improve(const float* x, int most, float d, float dmin, int& scale, int& minimum) {
  const auto error_of = [&](int s, int m) {
    return line_error(x, kPart, most, {d * static_cast<float>(s), dmin * static_cast<float>(m)});
  };
  float least = error_of(scale, minimum);
  for (bool better = true; better;) {
    better = false;
    const int s0 = scale, m0 = minimum;
    for (int s = std::max(0, s0 - 1); s <= std::min(kSixBits, s0 + 1); ++s) {
      for (int m = std::max(0, m0 - 1); m <= std::min(kSixBits, m0 + 1); ++m) {
        const float error = error_of(s, m);
        if (error < least) least = error, scale = s, minimum = m, better = true;
      }
    }
  }
}

template <class Block>
void write_lines(const float* from, void* to, int64_t elements, int most) {
  write_blocks<Block, kSize>(from, to, elements, [=](const float* x) {
    std::array<Line, kParts> lines;
    Line largest;
    for (int part = 0; part < kParts; ++part) {
      const Line line = lines[static_cast<size_t>(part)] = find_line(x + part * kPart, kPart, most);
      largest = {std::max(largest.step, line.step), std::max(largest.floor, line.floor)};
    }
    Block block{};
    block.d = to_f16(largest.step / kSixBits);
    block.dmin = to_f16(largest.floor / kSixBits);
    const float d = to_float(block.d), dmin = to_float(block.dmin);
    Scales scales;
    for (int part = 0; part < kParts; ++part) {
      const auto p = static_cast<size_t>(part);
      scales.scale[p] = multiple(lines[p].step, d);
      scales.minimum[p] = multiple(lines[p].floor, dmin);
      improve(x + part * kPart, most, d, dmin, scales.scale[p], scales.minimum[p]);
      unsigned char codes[kPart];
      line_error(x + part * kPart, kPart, most,
                 {d * static_cast<float>(scales.scale[p]), dmin * static_cast<float>(scales.minimum[p])}, codes);
      for (int i = 0; i < kPart; ++i) set_code(block, part, i, codes[i]);
    }
    block.scales = pack(scales);
    return block;
  });
}

constexpr int kShortParts = 16, kShortPart = 16, kMostQ6 = 31;

/// The element's byte of low bits and which half of it; its byte of high bits and where in it.
struct PlaceQ6 {
  size_t low, high;
  int low_shift, high_shift;
  explicit PlaceQ6(int i)
      : low(static_cast<size_t>(i / 128 * 64 + i % 64)),
        high(static_cast<size_t>(i / 128 * 32 + i % 32)),
        low_shift(i % 128 < 64 ? 0 : 4),
        high_shift(i % 128 / 32 * 2) {}
};

}  // namespace

void q4_k_to_floats(const void* from, float* to, int64_t elements) { read_lines<Q4K>(from, to, elements); }
void floats_to_q4_k(const float* from, void* to, int64_t elements) { write_lines<Q4K>(from, to, elements, 15); }
void q5_k_to_floats(const void* from, float* to, int64_t elements) { read_lines<Q5K>(from, to, elements); }
void floats_to_q5_k(const float* from, void* to, int64_t elements) { write_lines<Q5K>(from, to, elements, 31); }

void q6_k_to_floats(const void* from, float* to, int64_t elements) {
  read_blocks<Q6K, kSize>(from, to, elements, [](const Q6K& block, float* x) {
    const float d = to_float(block.d);
    for (int i = 0; i < kSize; ++i) {
      const PlaceQ6 at(i);
      const int q = (block.low[at.low] >> at.low_shift & 15) | (block.high[at.high] >> at.high_shift & 3) << 4;
      x[i] = d * static_cast<float>(block.scales[static_cast<size_t>(i / kShortPart)]) * static_cast<float>(q - 32);
    }
  });
}

void floats_to_q6_k(const float* from, void* to, int64_t elements) {
  write_blocks<Q6K, kSize>(from, to, elements, [](const float* x) {
    std::array<float, kShortParts> steps;
    float largest = 0;
    for (size_t p = 0; p < kShortParts; ++p) {
      steps[p] = find_step(x + p * kShortPart, kShortPart, kMostQ6);
      if (std::abs(steps[p]) > std::abs(largest)) largest = steps[p];
    }
    Q6K block{};
    block.d = to_f16(largest / -128);
    const float d = to_float(block.d);
    for (size_t p = 0; p < kShortParts; ++p) {
      const float* const part = x + p * kShortPart;
      int scale = d == 0 ? 0 : std::clamp(static_cast<int>(std::lrint(steps[p] / d)), -128, 127);
      float least = step_error(part, kShortPart, kMostQ6, d * static_cast<float>(scale));
      for (const int other : {scale - 2, scale - 1, scale + 1, scale + 2}) {
        if (other < -128 || other > 127) continue;
        const float error = step_error(part, kShortPart, kMostQ6, d * static_cast<float>(other));
        if (error < least) least = error, scale = other;
      }
      signed char codes[kShortPart];
      step_error(part, kShortPart, kMostQ6, d * static_cast<float>(scale), codes);
      block.scales[p] = static_cast<int8_t>(scale);
      for (int i = 0; i < kShortPart; ++i) {
        const PlaceQ6 at(static_cast<int>(p) * kShortPart + i);
        const int q = codes[i] + 32;
        block.low[at.low] = static_cast<uint8_t>(block.low[at.low] | (q & 15) << at.low_shift);
        block.high[at.high] = static_cast<uint8_t>(block.high[at.high] | (q >> 4) << at.high_shift);
      }
    }
    return block;
  });
}

}  // namespace moe
