#pragma once
/// Runs of f16 numbers (base/float16.h) as vectors. Only for sources under kernels/.

#include "backend/cpu/kernels/elements.h"
#include "backend/cpu/kernels/integers.h"

namespace moe::cpu::MOE_ISA {

/// Exact.
inline vf from_halves(vh x) {
#if defined(__AVX512F__)
  return (vf)_mm512_maskz_cvtph_ps(kAllLanes, (__m256i)x);
#elif defined(__AVX2__)
  return (vf)_mm256_cvtph_ps((__m128i)x);
#else
  return from_half((vi) __builtin_convertvector(x, vu));
#endif
}

/// For lanes that hold two f16 numbers each: the low one, and the high one, as f32.
inline vf first_half(vf x) {
#if defined(__AVX512F__)
  return from_half((vi)x);  // its conversion to 16 bits drops the high ones
#else
  return from_half((vi)x & 0xffff);
#endif
}
inline vf second_half(vf x) { return from_half((vi)((vu)x >> 16)); }

/// Rounds to nearest, ties to even. Numbers that are too large become infinity; a NaN stays a quiet NaN.
inline vh to_halves(vf x) {
#if defined(__AVX512F__)
  return (vh)_mm512_maskz_cvtps_ph(kAllLanes, x, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__AVX2__)
  return (vh)_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
#else
  const vu bits = (vu)x, sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  const vu nan = 0x7e00u | (magnitude >> 13 & 0x3ffu);
  // Below the normal range a half is a multiple of 2^-24, the last bit of a float in [0.5, 1): the addition rounds.
  const vu small = (vu)((vf)magnitude + splat(0.5f)) - 0x3f000000u;
  const vu normal = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
  const vu finite = magnitude < 0x38800000u ? small : normal;
  const vu infinite = magnitude >= 0x477ff000u ? (vu{} + 0x7c00u) : finite;
  return __builtin_convertvector(sign | (magnitude > 0x7f800000u ? nan : infinite), vh);
#endif
}

inline void store_halves(uint16_t* to, vf x, Whole) { *(vh_memory*)to = to_halves(x); }
inline void store_halves(uint16_t* to, vf x, Part part) {
  const vh bits = to_halves(x);
  for (int i = 0; i < part.n; ++i) to[i] = bits[i];
}

/// n f16 numbers as f32. Reads nothing beyond them, and may write up to kLanes - 1 zeros behind the last one.
inline void widen_halves(const uint16_t* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, from_halves(*(const vh_memory*)(from + i)));
  if (i == n) return;
  vh rest{};
  for (int64_t j = i; j < n; ++j) rest[j - i] = from[j];
  store(to + i, from_halves(rest));
}

}  // namespace moe::cpu::MOE_ISA
