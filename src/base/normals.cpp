#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "base/platform.h"
#include "base/random.h"

// A normal number takes a logarithm and a cosine. Here both are polynomials, so that the compiler computes several
// numbers at once. Their values differ from the library's by at most an error bound. A number whose f32 value would
// change within the bound is computed as Random::normal() does it. So the results are the same on every processor.

namespace moe {
namespace {

constexpr int64_t kBlock = 64;  // numbers whose intermediate values stay in the first cache

constexpr uint64_t kTwoTo52 = 0x4330000000000000;  // the bits of 2^52: below them fits an integer of 52 bits
constexpr double kRelativeError = 1e-14, kCosineError = 4e-15;

/// x below 2^52, without an instruction that only the newest processors have.
[[gnu::always_inline]] inline double to_double(uint64_t x) { return std::bit_cast<double>(kTwoTo52 | x) - 0x1.0p52; }

/// log(x) of a positive, normal x.
[[gnu::always_inline]] inline double logarithm(double x) {
  // x = 2^e m, where m is from sqrt(1/2) to sqrt(2): the bits of sqrt(1/2) become those of 1, the smallest m.
  constexpr uint64_t kLeast = std::bit_cast<uint64_t>(std::numbers::sqrt2 / 2), kOne = std::bit_cast<uint64_t>(1.0);
  constexpr uint64_t kFraction = (uint64_t{1} << 52) - 1;
  const uint64_t moved = std::bit_cast<uint64_t>(x) + (kOne - kLeast);
  const double e = to_double(moved >> 52) - 1023;
  const double f = std::bit_cast<double>((moved & kFraction) + kLeast) - 1;
  // log(1 + f) = 2 (s + s^3 / 3 + s^5 / 5 + ...) with s = f / (2 + f), |s| < 0.172
  const double s = f / (2 + f), z = s * s;
  double sum = 1.0 / 19;
  for (int n = 17; n >= 1; n -= 2) sum = sum * z + 1.0 / n;
  return e * std::numbers::ln2 + 2 * s * sum;
}

/// cos(2 pi turn / 2^32).
[[gnu::always_inline]] inline double cosine(uint32_t turn) {
  const uint32_t quarter = (turn + (uint32_t{1} << 29)) >> 30;  // the nearest one
  const double x =
      static_cast<double>(static_cast<int32_t>(turn - (quarter << 30))) * (2 * std::numbers::pi * 0x1.0p-32);
  const double z = -x * x;  // |x| <= pi / 4
  double cos = 1, sin = 1;
  for (int n = 16; n >= 2; n -= 2) {
    cos = 1 + z * (1.0 / (n * (n - 1))) * cos;
    sin = 1 + z * (1.0 / (n * (n + 1))) * sin;
  }
  sin *= x;
  const double value = (quarter & 1) != 0 ? sin : cos;
  return ((quarter + 1) & 2) != 0 ? -value : value;  // of the quarters 1 and 2
}

struct Key {
  uint32_t low, high;
};

/// The first two words of Philox4x32-10 for one index (Random::words).
[[gnu::always_inline]] inline void two_words(uint64_t index, uint64_t stream, Key key, uint32_t& first,
                                             uint32_t& second) {
  uint32_t c0 = static_cast<uint32_t>(index), c1 = static_cast<uint32_t>(index >> 32);
  uint32_t c2 = static_cast<uint32_t>(stream), c3 = static_cast<uint32_t>(stream >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * c0, product1 = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ key.low;
    c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ key.high;
    c1 = static_cast<uint32_t>(product1);
    c3 = static_cast<uint32_t>(product0);
    key.low += 0x9E3779B9;
    key.high += 0xBB67AE85;
  }
  first = c0;
  second = c1;
}

struct Draw {
  uint64_t first, stream;
  Key key;
  double scale;
};

/// Draws kBlock numbers. doubtful[i] is not 0 if the f32 value of number i may be wrong by one rounding.
[[gnu::always_inline]] inline void draw_block(const Draw& draw, float* values, uint32_t* doubtful) {
  uint32_t radius[kBlock], angle[kBlock];
  for (uint64_t i = 0; i < kBlock; ++i) two_words(draw.first + i, draw.stream, draw.key, radius[i], angle[i]);
  for (int64_t i = 0; i < kBlock; ++i) {
    const double square = -2 * logarithm((to_double(radius[i]) + 1) * 0x1.0p-32);
    const double length = draw.scale * std::sqrt(square);
    const double value = length * cosine(angle[i]);
    const double error = std::abs(value) * kRelativeError + std::abs(length) * kCosineError;
    values[i] = static_cast<float>(value);
    doubtful[i] = static_cast<float>(value - error) != static_cast<float>(value + error) || square == 0;
  }
}

using DrawBlock = void (*)(const Draw&, float*, uint32_t*);

void draw_any(const Draw& draw, float* values, uint32_t* doubtful) { draw_block(draw, values, doubtful); }
MOE_FOR_AVX2 void draw_avx2(const Draw& draw, float* values, uint32_t* doubtful) { draw_block(draw, values, doubtful); }
MOE_FOR_AVX512 void draw_avx512(const Draw& draw, float* values, uint32_t* doubtful) {
  draw_block(draw, values, doubtful);
}

DrawBlock block_for(Isa isa) {
  if (isa == Isa::baseline) return draw_any;
  return isa == Isa::avx2 ? draw_avx2 : draw_avx512;
}

}  // namespace

void Random::normals(uint64_t first, int64_t count, double scale, float* values) const {
  normals(first, count, scale, values, best_isa());
}

void Random::normals(uint64_t first, int64_t count, double scale, float* values, Isa isa) const {
  const DrawBlock draw_block = block_for(isa);
  const Key key{static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)};
  for (int64_t done = 0; done < count; done += kBlock) {
    float drawn[kBlock];
    uint32_t doubtful[kBlock];
    const uint64_t begin = first + static_cast<uint64_t>(done);
    draw_block({.first = begin, .stream = stream_, .key = key, .scale = scale}, drawn, doubtful);
    const int64_t wanted = std::min(kBlock, count - done);
    for (int64_t i = 0; i < wanted; ++i) {
      if (doubtful[i] != 0) drawn[i] = static_cast<float>(scale * normal(begin + static_cast<uint64_t>(i)));
    }
    std::copy_n(drawn, wanted, values + done);
  }
}

}  // namespace moe
