#pragma once
/// A vector of f32 with the width of the instruction set that this file is compiled for, and the few functions that
/// every kernel uses. Each lane's result depends only on that lane, so an element has the same bits at any place in a
/// vector. The tail of a loop uses load_part and store_part, not a scalar loop. Only for sources under kernels/.
/// Functions are in the instruction set's own namespace, so the linker shares none of them.

#include <cstdint>

#include "base/bfloat16.h"

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace moe::cpu::MOE_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr __mmask16 kAllLanes = 0xffff;  // g++ 12 warns wrongly about the forms of intrinsics without a mask
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float vf __attribute__((vector_size(4 * kLanes)));
typedef int32_t vi __attribute__((vector_size(4 * kLanes)));
typedef uint32_t vu __attribute__((vector_size(4 * kLanes)));
typedef uint16_t vh __attribute__((vector_size(2 * kLanes)));

// The same vectors at the address of any element (a pair of bf16 may begin at any bf16), for any declared type.
typedef float vf_memory __attribute__((vector_size(4 * kLanes), aligned(2), may_alias));
typedef uint16_t vh_memory __attribute__((vector_size(2 * kLanes), aligned(2), may_alias));

inline vf splat(float x) {
#if defined(__AVX512F__)
  return _mm512_set1_ps(x);
#elif defined(__AVX__)
  return _mm256_set1_ps(x);
#else
  return vf{x, x, x, x};
#endif
}
inline vf zero() { return vf{}; }

inline vi lane_numbers() {
#if defined(__AVX512F__)
  return vi{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif defined(__AVX__)
  return vi{0, 1, 2, 3, 4, 5, 6, 7};
#else
  return vi{0, 1, 2, 3};
#endif
}

/// -1 in the first n lanes, 0 in the others.
inline vi first_lanes(int n) { return lane_numbers() < (vi{} + n); }

/// a b + c, rounded once if the instruction set can.
inline vf fma(vf a, vf b, vf c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

#if defined(__AVX512BF16__) || defined(MOE_MULTIPLY_PAIRS)
/// True if products of bf16 operands use pairs. This is so if fma_pairs is one instruction, or if the build asks for it
/// (to test packing and tiles on any processor, docs/testing.md).
constexpr bool kMultipliesPairs = true;
#else
constexpr bool kMultipliesPairs = false;
#endif

/// For lanes that hold two bf16 numbers each: the low one, and the high one, as f32.
inline vf first_of_pair(vf x) { return (vf)((vu)x << 16); }
inline vf second_of_pair(vf x) { return (vf)((vu)x & 0xffff0000u); }

/// c + the product of the first numbers + the product of the second numbers of two lanes of pairs.
inline vf fma_pairs(vf a, vf b, vf c) {
#if defined(__AVX512BF16__)
  return (vf)_mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
#else
  return fma(second_of_pair(a), second_of_pair(b), fma(first_of_pair(a), first_of_pair(b), c));
#endif
}

/// The larger number of each lane; b if either is NaN.
inline vf max(vf a, vf b) {
#if defined(__AVX512F__)
  return _mm512_maskz_max_ps(kAllLanes, a, b);
#elif defined(__AVX__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}
inline vf min(vf a, vf b) {
#if defined(__AVX512F__)
  return _mm512_maskz_min_ps(kAllLanes, a, b);
#elif defined(__AVX__)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}

inline vf sqrt(vf x) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_ps(0xffff, x);  // the plain form causes a warning in GCC's own header
#elif defined(__AVX__)
  return _mm256_sqrt_ps(x);
#else
  for (int i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

/// Pairs of the elements of two rows in the same columns.
inline vf join(vh first, vh second) {
#if defined(__AVX512BW__)
  // Indices from 32 on name numbers of `second`.
  const __m512i interleaved =
      _mm512_set_epi32(0x2f000f, 0x2e000e, 0x2d000d, 0x2c000c, 0x2b000b, 0x2a000a, 0x290009, 0x280008, 0x270007,
                       0x260006, 0x250005, 0x240004, 0x230003, 0x220002, 0x210001, 0x200000);
  return (vf)_mm512_permutex2var_epi16(_mm512_castsi256_si512((__m256i)first), interleaved,
                                       _mm512_castsi256_si512((__m256i)second));
#else
  return (vf)(__builtin_convertvector(first, vu) | __builtin_convertvector(second, vu) << 16);
#endif
}

inline vf widen(vh x) {
#if defined(__AVX512F__)
  return (vf)((vu)_mm512_maskz_cvtepu16_epi32(kAllLanes, (__m256i)x) << 16);
#else
  return (vf)(__builtin_convertvector(x, vu) << 16);
#endif
}

/// Rounds to nearest, ties to even; a NaN stays a quiet NaN.
inline vh narrow(vf x) {
#if defined(__AVX512BF16__)
  // The instruction would turn numbers below the normal range into 0.
  constexpr int kSubnormal = 0x20;
  if (__builtin_expect(_mm512_fpclass_ps_mask(x, kSubnormal) == 0, 1)) return (vh)_mm512_cvtneps_pbh(x);
#endif
  const vu bits = (vu)x;
  const vu rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const vu quiet = (bits >> 16) | 0x40u;
  return __builtin_convertvector(x == x ? rounded : quiet, vh);
}

inline vf load(const float* p) { return *(const vf_memory*)p; }
inline vf load(const bf16* p) { return widen(*(const vh_memory*)p); }
inline void store(float* p, vf x) { *(vf_memory*)p = x; }
inline void store(bf16* p, vf x) { *(vh_memory*)p = narrow(x); }

/// The first n elements, 0 <= n <= kLanes. Reads nothing beyond them; the other lanes are 0.
inline vf load_part(const float* p, int n) {
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p);
#elif defined(__AVX__)
  return _mm256_maskload_ps(p, (__m256i)first_lanes(n));
#else
  vf x{};
  __builtin_memcpy(&x, p, sizeof(float) * static_cast<size_t>(n));  // pairs of bf16 begin at any even address
  return x;
#endif
}

inline vf load_part(const bf16* p, int n) {
#if defined(__AVX512BW__)
  return widen((vh)_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << n) - 1u), p));
#else
  uint16_t bits[kLanes] = {};
  for (int i = 0; i < n; ++i) bits[i] = p[i].bits;
  return widen(*(const vh_memory*)bits);
#endif
}

inline void store_part(float* p, vf x, int n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), x);
#elif defined(__AVX__)
  _mm256_maskstore_ps(p, (__m256i)first_lanes(n), x);
#else
  for (int i = 0; i < n; ++i) p[i] = x[i];
#endif
}

inline void store_part(bf16* p, vf x, int n) {
  const vh bits = narrow(x);
#if defined(__AVX512BW__)
  _mm256_mask_storeu_epi16(p, static_cast<__mmask16>((1u << n) - 1u), (__m256i)bits);
#else
  for (int i = 0; i < n; ++i) p[i].bits = bits[i];
#endif
}

#if defined(__AVX__)
typedef float quarter __attribute__((vector_size(16)));
#else
typedef vf quarter;
#endif

/// Folds a vector to four lanes: combines lanes i and i + half of it with `combine`, again and again.
template <class Combine>
inline quarter fold(vf x, Combine combine) {
#if defined(__AVX512F__)
  const auto half = combine(__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7),
                            __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15));
  return combine(__builtin_shufflevector(half, half, 0, 1, 2, 3), __builtin_shufflevector(half, half, 4, 5, 6, 7));
#elif defined(__AVX__)
  return combine(__builtin_shufflevector(x, x, 0, 1, 2, 3), __builtin_shufflevector(x, x, 4, 5, 6, 7));
#else
  (void)combine;
  return x;
#endif
}

/// The sum of the lanes, always in the same binary tree.
inline float sum(vf x) {
  const quarter four = fold(x, [](auto a, auto b) { return a + b; });
  const quarter two = four + __builtin_shufflevector(four, four, 2, 3, 0, 1);
  return two[0] + two[1];
}

inline float max_lane(vf x) {
  const quarter four = fold(x, [](auto a, auto b) { return a > b ? a : b; });
  const quarter other = __builtin_shufflevector(four, four, 2, 3, 0, 1);
  const quarter two = four > other ? four : other;
  return two[0] > two[1] ? two[0] : two[1];
}

/// e^r for |r| <= ln(2) / 2, in pairs of terms: the length of the chains of dependent operations matters more here than
/// their number.
inline vf exp_polynomial(vf r) {
  const vf r2 = r * r;
  const vf high = fma(r, splat(1.9875691500e-4f), splat(1.3981999507e-3f));
  const vf middle = fma(r, splat(8.3334519073e-3f), splat(4.1665795894e-2f));
  const vf low = fma(r, splat(1.6666665459e-1f), splat(5.0000001201e-1f));
  return fma(fma(fma(high, r2, middle), r2, low), r2, r) + splat(1.0f);
}

/// e^x for x in [-105, 89], or NaN.
inline vf exp_in_range(vf x) {
  // x = n ln 2 + r. Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  const vf magic = splat(12582912.0f);
  const vf shifted = fma(x, splat(1.44269504088896341f), magic);
  const vf n = shifted - magic;
  vf r = fma(n, splat(-0.693359375f), x);  // 0.693359375 has few bits, so n times it is exact
  r = fma(n, splat(2.12194440e-4f), r);
  const vf p = exp_polynomial(r);
#if defined(__AVX512F__)
  return _mm512_maskz_scalef_ps(kAllLanes, p, n);
#else
  // 2^n in two factors, so that results below the normal range are rounded and not lost.
  const vi exponent = (vi)((vu)shifted - (vu)magic);
  const vi half = exponent >> 1;
  const vf scale_1 = (vf)(((vu)half + 127u) << 23);
  const vf scale_2 = (vf)(((vu)(exponent - half) + 127u) << 23);
  return p * scale_1 * scale_2;
#endif
}

/// e^x within 1.1 ulp (2 ulp without FMA): 0 at -infinity and below -104, infinity above 88.73, NaN at NaN, 1 at 0.
inline vf exp(vf x) { return exp_in_range(min(splat(89.0f), max(splat(-105.0f), x))); }

/// e^-|x|, computed like exp.
inline vf exp_of_minus(vf x) { return exp_in_range(max(splat(-105.0f), (vf)((vu)x | 0x80000000u))); }

/// exp for x of at most 88, if results below the normal range do not matter: they are 0. NaN for NaN.
inline vf exp_weight(vf x) {
  const vf magic = splat(12582912.0f);
  const vf shifted = fma(x, splat(1.44269504088896341f), magic);
  const vf n = shifted - magic;
  vf r = fma(n, splat(-0.693359375f), x);
  r = fma(n, splat(2.12194440e-4f), r);
  const vf p = exp_polynomial(r);
  const vf scale = (vf)(((vu)shifted << 23) + (vu)splat(1.0f));
  return x < splat(-87.3f) ? zero() : p * scale;
}

/// Within each group of four lanes, row i, lane j becomes row j, lane i.
inline __attribute__((always_inline)) void transpose_fours(vf* row) {
#if defined(__AVX512F__)
  const __m512 lo_01 = _mm512_maskz_unpacklo_ps(kAllLanes, row[0], row[1]);
  const __m512 hi_01 = _mm512_maskz_unpackhi_ps(kAllLanes, row[0], row[1]);
  const __m512 lo_23 = _mm512_maskz_unpacklo_ps(kAllLanes, row[2], row[3]);
  const __m512 hi_23 = _mm512_maskz_unpackhi_ps(kAllLanes, row[2], row[3]);
  row[0] = _mm512_maskz_shuffle_ps(kAllLanes, lo_01, lo_23, 0x44);
  row[1] = _mm512_maskz_shuffle_ps(kAllLanes, lo_01, lo_23, 0xee);
  row[2] = _mm512_maskz_shuffle_ps(kAllLanes, hi_01, hi_23, 0x44);
  row[3] = _mm512_maskz_shuffle_ps(kAllLanes, hi_01, hi_23, 0xee);
#elif defined(__AVX__)
  const __m256 lo_01 = _mm256_unpacklo_ps(row[0], row[1]), hi_01 = _mm256_unpackhi_ps(row[0], row[1]);
  const __m256 lo_23 = _mm256_unpacklo_ps(row[2], row[3]), hi_23 = _mm256_unpackhi_ps(row[2], row[3]);
  row[0] = _mm256_shuffle_ps(lo_01, lo_23, 0x44), row[1] = _mm256_shuffle_ps(lo_01, lo_23, 0xee);
  row[2] = _mm256_shuffle_ps(hi_01, hi_23, 0x44), row[3] = _mm256_shuffle_ps(hi_01, hi_23, 0xee);
#else
  const vf lo_01 = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
  const vf hi_01 = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
  const vf lo_23 = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
  const vf hi_23 = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
  row[0] = __builtin_shufflevector(lo_01, lo_23, 0, 1, 4, 5);
  row[1] = __builtin_shufflevector(lo_01, lo_23, 2, 3, 6, 7);
  row[2] = __builtin_shufflevector(hi_01, hi_23, 0, 1, 4, 5);
  row[3] = __builtin_shufflevector(hi_01, hi_23, 2, 3, 6, 7);
#endif
}

/// Row i, lane j becomes row j, lane i. Always inlined, because the rows must stay in registers.
inline __attribute__((always_inline)) void transpose(vf (&row)[kLanes]) {
#pragma GCC unroll 4
  for (int i = 0; i < kLanes; i += 4) transpose_fours(row + i);
#if defined(__AVX512F__)
  for (int i = 0; i < 4; ++i) {  // then a 4 x 4 transposition of those blocks
    const __m512 even_01 = _mm512_maskz_shuffle_f32x4(kAllLanes, row[i], row[i + 4], 0x88);
    const __m512 odd_01 = _mm512_maskz_shuffle_f32x4(kAllLanes, row[i], row[i + 4], 0xdd);
    const __m512 even_23 = _mm512_maskz_shuffle_f32x4(kAllLanes, row[i + 8], row[i + 12], 0x88);
    const __m512 odd_23 = _mm512_maskz_shuffle_f32x4(kAllLanes, row[i + 8], row[i + 12], 0xdd);
    row[i] = _mm512_maskz_shuffle_f32x4(kAllLanes, even_01, even_23, 0x88);
    row[i + 4] = _mm512_maskz_shuffle_f32x4(kAllLanes, odd_01, odd_23, 0x88);
    row[i + 8] = _mm512_maskz_shuffle_f32x4(kAllLanes, even_01, even_23, 0xdd);
    row[i + 12] = _mm512_maskz_shuffle_f32x4(kAllLanes, odd_01, odd_23, 0xdd);
  }
#elif defined(__AVX__)
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m256 low = _mm256_permute2f128_ps(row[i], row[i + 4], 0x20);
    row[i + 4] = _mm256_permute2f128_ps(row[i], row[i + 4], 0x31);
    row[i] = low;
  }
#endif
}

typedef float four_floats __attribute__((vector_size(16), aligned(2), may_alias));

/// Elements k to k + 3 of each of kLanes addresses: element k + j of address i becomes row j, lane i.
inline void load_columns(const float* const* lines, int64_t k, vf (&row)[4]) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const auto four = [&](int group) { return *(const four_floats*)(lines[4 * group + i] + k); };
#if defined(__AVX512F__)
    const auto low = __builtin_shufflevector(four(0), four(1), 0, 1, 2, 3, 4, 5, 6, 7);
    const auto high = __builtin_shufflevector(four(2), four(3), 0, 1, 2, 3, 4, 5, 6, 7);
    row[i] = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#elif defined(__AVX__)
    row[i] = __builtin_shufflevector(four(0), four(1), 0, 1, 2, 3, 4, 5, 6, 7);
#else
    row[i] = (vf)four(0);
#endif
  }
  transpose_fours(row);
}

}  // namespace moe::cpu::MOE_ISA
