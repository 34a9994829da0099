#pragma once
/// Counter-based random numbers (Philox4x32-10). A value is a pure function of (seed, stream, index). So draws depend
/// neither on their order, nor on threads, microbatches or devices. Several threads may use one object.

#include <array>
#include <cstdint>
#include <string_view>

#include "base/platform.h"

namespace moe {

class Random {
 public:
  /// `stream` separates different uses of one seed. It may be a hash of a parameter's name or the number of a step.
  Random(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}

  /// Four independent 32-bit words for this index.
  std::array<uint32_t, 4> words(uint64_t index) const;
  /// 64 random bits.
  uint64_t bits(uint64_t index) const;
  /// Uniform in [0, 1), 53 bits.
  double uniform(uint64_t index) const;
  /// Standard normal (Box-Muller).
  double normal(uint64_t index) const;
  /// values[i] = scale * normal(first + i), rounded once: the same bits as one by one, in a half (SSE2) to an eighth
  /// (AVX-512) of the time.
  void normals(uint64_t first, int64_t count, double scale, float* values) const;
  /// The same with the instructions of `isa`, which the processor has.
  void normals(uint64_t first, int64_t count, double scale, float* values, Isa isa) const;
  /// Uniform integer in [0, bound), bound > 0; the bias is below bound / 2^64.
  uint64_t below(uint64_t index, uint64_t bound) const;

 private:
  uint64_t seed_;
  uint64_t stream_;
};

/// A stable 64-bit hash of a name (FNV-1a), for use as a stream.
uint64_t hash_name(std::string_view name);

}  // namespace moe
