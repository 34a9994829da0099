#pragma once
/// Products of small integers in the lanes of a vector, and f16 numbers. Only for sources under kernels/.

#include "backend/cpu/kernels/simd.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace moe::cpu::MOE_ISA {

typedef int32_t vi_memory __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

inline vi splat_integer(int32_t x) {
#if defined(__AVX512F__)
  return (vi)_mm512_set1_epi32(x);
#elif defined(__AVX__)
  return (vi)_mm256_set1_epi32(x);
#else
  return vi{x, x, x, x};
#endif
}

inline vf to_floats(vi x) { return __builtin_convertvector(x, vf); }

/// Each lane: sum + the four products of its unsigned bytes in `codes` and its signed bytes in `a`, which are at least
/// -127. Codes need all 8 bits if `kWide`, at most 6 otherwise. Exact.
template <bool kWide>
inline vi add_byte_products(vi sum, vi codes, vi a) {
#if defined(__AVX512VNNI__)
  return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)codes, (__m512i)a);
#else
  if constexpr (kWide) {  // sums of two products of 8 bits would not fit in 16
    const vi low = codes & 0x0f0f0f0f, high = (vi)((vu)codes >> 4) & 0x0f0f0f0f;
    return add_byte_products<false>(sum, low, a) + (add_byte_products<false>(vi{}, high, a) << 4);
  }
#if defined(__AVX512BW__)
  const __m512i pairs = _mm512_maddubs_epi16((__m512i)codes, (__m512i)a);
  return sum + (vi)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
#elif defined(__AVX2__)
  const __m256i pairs = _mm256_maddubs_epi16((__m256i)codes, (__m256i)a);
  return sum + (vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#elif defined(__SSE2__)
  const __m128i c = (__m128i)codes, x = (__m128i)a;
  const __m128i even = _mm_madd_epi16(_mm_and_si128(c, _mm_set1_epi16(255)), _mm_srai_epi16(_mm_slli_epi16(x, 8), 8));
  return sum + (vi)even + (vi)_mm_madd_epi16(_mm_srli_epi16(c, 8), _mm_srai_epi16(x, 8));
#else
  for (int byte = 0; byte < 4; ++byte) sum += (codes >> 8 * byte & 255) * ((a << (24 - 8 * byte)) >> 24);
  return sum;
#endif
#endif
}

/// The f16 number in the low 16 bits of each lane; the high bits are 0.
inline vf from_half(vi x) {
#if defined(__AVX512F__)
  return (vf)_mm512_maskz_cvtph_ps(kAllLanes, _mm512_maskz_cvtepi32_epi16(kAllLanes, (__m512i)x));
#elif defined(__AVX2__)
  const __m256i all = (__m256i)x;
  return (vf)_mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1)));
#else
  const vi magnitude = x & 0x7fff, largest = x & 0x7c00;
  const vf scaled = (vf)(magnitude << 13) * splat(0x1p112f);  // exact, also for numbers below the normal range
  const vi special = (vi)(largest == 0x7c00) & 0x7f800000;
  return (vf)((vi)scaled | special | (x & 0x8000) << 16);
#endif
}

/// The same address. The compiler cannot see that, so it computes further addresses from this one, and does not keep
/// each of 16 lines in a register of its own: there are not as many.
template <class T>
inline __attribute__((always_inline)) const T* base_address(const T* at) {
  asm("" : "+r"(at));
  return at;
}

#if defined(__AVX2__)
/// The f16 numbers at eight addresses from `at` on.
inline __m128i load_eight_halves(const char* at, int64_t step) {
  const int64_t step_3 = 3 * step;
  const char* const at_4 = base_address(at + 4 * step);
  const auto half = [](const char* p) {
    uint16_t bits;
    __builtin_memcpy(&bits, p, sizeof(bits));
    return bits;
  };
  __m128i x = _mm_setzero_si128();
  x = _mm_insert_epi16(x, half(at), 0);
  x = _mm_insert_epi16(x, half(at + step), 1);
  x = _mm_insert_epi16(x, half(at + step * 2), 2);
  x = _mm_insert_epi16(x, half(at + step_3), 3);
  x = _mm_insert_epi16(x, half(at_4), 4);
  x = _mm_insert_epi16(x, half(at_4 + step), 5);
  x = _mm_insert_epi16(x, half(at_4 + step * 2), 6);
  return _mm_insert_epi16(x, half(at_4 + step_3), 7);
}
#endif

/// The f16 numbers at `at`, at + step and so on.
inline vf load_halves(const char* at, int64_t step) {
#if defined(__AVX512F__)
  const __m128i low = load_eight_halves(at, step), high = load_eight_halves(base_address(at + 8 * step), step);
  return (vf)_mm512_maskz_cvtph_ps(kAllLanes, _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1));
#elif defined(__AVX2__)
  return (vf)_mm256_cvtph_ps(load_eight_halves(at, step));
#else
  vi numbers;
  for (int i = 0; i < kLanes; ++i) {
    uint16_t bits;
    __builtin_memcpy(&bits, at + i * step, sizeof(bits));
    numbers[i] = bits;
  }
  return from_half(numbers);
#endif
}

typedef int32_t four_words __attribute__((vector_size(16), aligned(2), may_alias));

/// 16 bytes at `at`, at + step and so on: bytes 4 j to 4 j + 3 of address i become word j, lane i.
inline __attribute__((always_inline)) void load_words(const char* at, int64_t step, vi (&words)[4]) {
  vf row[4];
  const int64_t offsets[4] = {0, step, 2 * step, 3 * step};
#if defined(__AVX512F__)
  const char *const at_4 = base_address(at + 4 * step), *const at_8 = base_address(at + 8 * step);
  const char* const at_12 = base_address(at_4 + 8 * step);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const auto four = [&](const char* group) { return (__m128i) * (const four_words*)(group + offsets[i]); };
    __m512i x = _mm512_castsi128_si512(four(at));
    x = _mm512_inserti32x4(x, four(at_4), 1);
    x = _mm512_inserti32x4(x, four(at_8), 2);
    row[i] = (vf)_mm512_inserti32x4(x, four(at_12), 3);
  }
#elif defined(__AVX__)
  const char* const at_4 = base_address(at + 4 * step);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const auto four = [&](const char* group) { return (__m128i) * (const four_words*)(group + offsets[i]); };
    row[i] = (vf)_mm256_inserti128_si256(_mm256_castsi128_si256(four(at)), four(at_4), 1);
  }
#else
  for (int i = 0; i < 4; ++i) row[i] = (vf) * (const four_words*)(at + offsets[i]);
#endif
  transpose_fours(row);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) words[i] = (vi)row[i];
}

}  // namespace moe::cpu::MOE_ISA
