#pragma once
/// base/random.h on the device: the same words for the same (seed, stream, index).

#include <cstdint>

#include "ops/routing_methods.h"

namespace moe::cuda {

__device__ inline uint4 random_words(uint64_t seed, uint64_t stream, uint64_t index) {
  uint32_t c0 = static_cast<uint32_t>(index), c1 = static_cast<uint32_t>(index >> 32);
  uint32_t c2 = static_cast<uint32_t>(stream), c3 = static_cast<uint32_t>(stream >> 32);
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
    const uint32_t high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
    c0 = high1 ^ c1 ^ key0;
    c1 = low1;
    c2 = high0 ^ c3 ^ key1;
    c3 = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return make_uint4(c0, c1, c2, c3);
}

/// Uniform in [0, 1), 53 bits.
__device__ inline double random_uniform(const Draws& draws, int64_t index) {
  const uint4 w = random_words(draws.seed, draws.stream, static_cast<uint64_t>(index));
  return static_cast<double>((static_cast<uint64_t>(w.y) << 32 | w.x) >> 11) * 0x1.0p-53;
}

/// Standard normal.
__device__ inline double random_normal(const Draws& draws, int64_t index) {
  const uint4 w = random_words(draws.seed, draws.stream, static_cast<uint64_t>(index));
  const double radius = sqrt(-2.0 * log((static_cast<double>(w.x) + 1.0) * 0x1.0p-32));
  return radius * cos(2.0 * 3.141592653589793 * (static_cast<double>(w.y) * 0x1.0p-32));
}

}  // namespace moe::cuda
