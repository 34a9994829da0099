#pragma once
/// Weights in blocks (tensor/blocks/layout.h), read kLanes lines at a time: lane i belongs to line i. A layout loads a
/// step of one or two runs of 32 elements. A run has codes q, in words of four bytes, and a scale for each of its
/// parts: an element is scale (q - kZero), or scale q + floor.

#include "backend/cpu/kernels/integers.h"

namespace moe::cpu::MOE_ISA {

/// What products need to know of a step.
template <int Runs, int Parts, int Gap, bool HasFloor, bool Wide>
struct Form {
  static constexpr int kRuns = Runs;
  static constexpr int kParts = Parts;  ///< of a run
  static constexpr int kPart = 32 / Parts;
  static constexpr int kGap = Gap;  ///< elements from a run's begin to the next one's
  static constexpr bool kFloor = HasFloor;
  static constexpr bool kWide = Wide;  ///< codes need all 8 bits; otherwise at most 6

  /// The first element of step t of a line.
  static constexpr int64_t begin(int64_t t) { return Gap == 64 ? t / 2 * 128 + t % 2 * 32 : t * 32 * Runs; }
};

template <class F>
struct Step {
  vi codes[F::kRuns * 8];
  vf scale[F::kRuns * F::kParts];
  vf floor[F::kRuns];  ///< unused without kFloor
};

constexpr int32_t kLowFour = 0x0f0f0f0f;
inline vi low_fours(vi words) { return words & kLowFour; }
inline vi high_fours(vi words) { return (vi)((vu)words >> 4) & kLowFour; }

/// Adds bit i of each lane of `bits` to the codes of 32 elements as bit 4 of byte i.
inline __attribute__((always_inline)) void add_fifth_bits(vi bits, vi* codes) {
#if defined(__AVX512BW__)
  const __m512i sixteen = _mm512_set1_epi8(16);
#pragma GCC unroll 4
  for (int pair = 0; pair < 4; ++pair) {  // byte `pair` of each lane four times; each copy keeps one bit
    const __m512i places = _mm512_add_epi32(_mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0),
                                            _mm512_set1_epi32(0x01010101 * pair));
    const __m512i copies = _mm512_shuffle_epi8((__m512i)bits, places);
    const auto add = [&](vi& code, int32_t bit_of_byte) {
      const __mmask64 set = _mm512_test_epi8_mask(copies, _mm512_set1_epi32(bit_of_byte));
      code = (vi)_mm512_mask_add_epi8((__m512i)code, set, (__m512i)code, sixteen);
    };
    add(codes[2 * pair], 0x08040201);
    add(codes[2 * pair + 1], static_cast<int32_t>(0x80402010));
  }
#else
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) {
    // The factor puts bit b at 8 b + 4; no two bits meet elsewhere.
    codes[j] |= (vi)(((vu)bits >> (4 * j) & 15u) * 0x02040810u) & 0x10101010;
  }
#endif
}

/// The codes of 32 elements whose low four bits are 16 bytes at `at`: elements 0 to 15, then 16 to 31.
inline __attribute__((always_inline)) void load_fours(const char* at, int64_t step, vi* codes) {
  vi words[4];
  load_words(at, step, words);
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) codes[j] = low_fours(words[j]), codes[4 + j] = high_fours(words[j]);
}

struct NoHeader {};

using SymmetricForm = Form<1, 1, 32, false, false>;
using AffineForm = Form<1, 1, 32, true, false>;

struct LinesQ8_0 {
  using F = Form<1, 1, 32, false, true>;
  using Header = NoHeader;
  static constexpr int kBytes = 34, kSteps = 1, kZero = 128;
  static Header header(const char*, int64_t) { return {}; }
  static inline __attribute__((always_inline)) void load(const Header&, const char* at, int64_t step, int,
                                                         Step<F>& to) {
    to.scale[0] = load_halves(at, step);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      vi words[4];
      load_words(at + 2 + 16 * half, step, words);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) to.codes[4 * half + j] = words[j] ^ (int32_t)0x80808080;
    }
  }
};

struct LinesQ4_0 {
  using F = SymmetricForm;
  using Header = NoHeader;
  static constexpr int kBytes = 18, kSteps = 1, kZero = 8;
  static Header header(const char*, int64_t) { return {}; }
  static inline __attribute__((always_inline)) void load(const Header&, const char* at, int64_t step, int,
                                                         Step<F>& to) {
    to.scale[0] = load_halves(at, step);
    load_fours(at + 2, step, to.codes);
  }
};

struct LinesQ4_1 {
  using F = AffineForm;
  using Header = NoHeader;
  static constexpr int kBytes = 20, kSteps = 1, kZero = 0;
  static Header header(const char*, int64_t) { return {}; }
  static inline __attribute__((always_inline)) void load(const Header&, const char* at, int64_t step, int,
                                                         Step<F>& to) {
    to.scale[0] = load_halves(at, step);
    to.floor[0] = load_halves(at + 2, step);
    load_fours(at + 4, step, to.codes);
  }
};

struct LinesQ5_0 {
  using F = SymmetricForm;
  using Header = NoHeader;
  static constexpr int kBytes = 22, kSteps = 1, kZero = 16;
  static Header header(const char*, int64_t) { return {}; }
  static inline __attribute__((always_inline)) void load(const Header&, const char* at, int64_t step, int,
                                                         Step<F>& to) {
    vi first[4];  // d and half of the fifth bits; the other half and two codes
    load_words(at, step, first);
    load_fours(at + 6, step, to.codes);
    to.scale[0] = from_half(first[0] & 0xffff);
    const vi high = (vi)((vu)first[0] >> 16) | first[1] << 16;
    add_fifth_bits(high, to.codes);
  }
};

struct LinesQ5_1 {
  using F = AffineForm;
  using Header = NoHeader;
  static constexpr int kBytes = 24, kSteps = 1, kZero = 0;
  static Header header(const char*, int64_t) { return {}; }
  static inline __attribute__((always_inline)) void load(const Header&, const char* at, int64_t step, int,
                                                         Step<F>& to) {
    vi first[4];  // d and m; the fifth bits; eight codes
    load_words(at, step, first);
    load_fours(at + 8, step, to.codes);
    to.scale[0] = from_half(first[0] & 0xffff);
    to.floor[0] = from_half((vi)((vu)first[0] >> 16));
    add_fifth_bits(first[1], to.codes);
  }
};

/// d, dmin, and the scales and minima of eight parts (k_blocks.cpp), of q4_k and q5_k.
struct HeaderOfParts {
  vf d, dmin;
  vi scales[3];

  static inline __attribute__((always_inline)) HeaderOfParts load(const char* at, int64_t step) {
    vi words[4];
    load_words(at, step, words);
    return {from_half(words[0] & 0xffff), from_half((vi)((vu)words[0] >> 16)), {words[1], words[2], words[3]}};
  }

  /// Of part p, with a negative minimum.
  void part(int p, vf& scale, vf& floor) const {
    vi s, m;
    if (p < 4) {
      s = (vi)((vu)scales[0] >> (8 * p)) & 63;
      m = (vi)((vu)scales[1] >> (8 * p)) & 63;
    } else {
      const int at = 8 * (p - 4);
      s = ((vi)((vu)scales[2] >> at) & 15) | ((vi)((vu)scales[0] >> (at + 2)) & 48);
      m = ((vi)((vu)scales[2] >> (at + 4)) & 15) | ((vi)((vu)scales[1] >> (at + 2)) & 48);
    }
    scale = d * to_floats(s);
    floor = -(dmin * to_floats(m));
  }
};

struct LinesQ4K {
  using F = Form<2, 1, 32, true, false>;
  using Header = HeaderOfParts;
  static constexpr int kBytes = 144, kSteps = 4, kZero = 0;
  static inline __attribute__((always_inline)) Header header(const char* at, int64_t step) {
    return Header::load(at, step);
  }
  static inline __attribute__((always_inline)) void load(const Header& header, const char* at, int64_t step, int s,
                                                         Step<F>& to) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      vi words[4];
      load_words(at + 16 + 32 * s + 16 * half, step, words);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        to.codes[4 * half + j] = low_fours(words[j]);
        to.codes[8 + 4 * half + j] = high_fours(words[j]);
      }
    }
#pragma GCC unroll 2
    for (int run = 0; run < 2; ++run) header.part(2 * s + run, to.scale[run], to.floor[run]);
  }
};

struct LinesQ5K {
  using F = LinesQ4K::F;
  using Header = HeaderOfParts;
  static constexpr int kBytes = 176, kSteps = 4, kZero = 0;
  static inline __attribute__((always_inline)) Header header(const char* at, int64_t step) {
    return Header::load(at, step);
  }
  static inline __attribute__((always_inline)) void load(const Header& header, const char* at, int64_t step, int s,
                                                         Step<F>& to) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      vi words[4], high[4];
      load_words(at + 48 + 32 * s + 16 * half, step, words);
      load_words(at + 16 + 16 * half, step, high);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const auto fifth = [&](int p) { return ((vi)((vu)high[j] >> p) & 0x01010101) << 4; };
        to.codes[4 * half + j] = low_fours(words[j]) | fifth(2 * s);
        to.codes[8 + 4 * half + j] = high_fours(words[j]) | fifth(2 * s + 1);
      }
    }
#pragma GCC unroll 2
    for (int run = 0; run < 2; ++run) header.part(2 * s + run, to.scale[run], to.floor[run]);
  }
};

/// Step s: runs s % 2 and s % 2 + 2 of a half of 128 elements, which share bytes.
struct LinesQ6K {
  using F = Form<2, 2, 64, false, false>;
  struct Header {
    vf d;
    vi scales[4];
  };
  static constexpr int kBytes = 210, kSteps = 4, kZero = 32;
  static inline __attribute__((always_inline)) Header header(const char* at, int64_t step) {
    Header header;
    load_words(at + 192, step, header.scales);
    header.d = load_halves(at + 208, step);
    return header;
  }
  static inline __attribute__((always_inline)) void load(const Header& header, const char* at, int64_t step, int s,
                                                         Step<F>& to) {
    const int part = s / 2, first = s % 2;
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      vi words[4], high[4];
      load_words(at + 64 * part + 32 * first + 16 * half, step, words);
      load_words(at + 128 + 32 * part + 16 * half, step, high);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const auto sixth = [&](int run) { return ((vi)((vu)high[j] >> (2 * run)) & 0x03030303) << 4; };
        to.codes[4 * half + j] = low_fours(words[j]) | sixth(first);
        to.codes[8 + 4 * half + j] = high_fours(words[j]) | sixth(first + 2);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int number = 8 * part + 2 * (first + i / 2 * 2) + i % 2;
      const vi scale = (header.scales[number / 4] << (24 - 8 * (number % 4))) >> 24;
      to.scale[i] = header.d * to_floats(scale);
    }
  }
};

}  // namespace moe::cpu::MOE_ISA
