#pragma once
/// How kernels read weights in blocks (tensor/blocks/layout.h has their layout): as small integers, which bf16 holds
/// exactly, and the scale and minimum that they share. Elements are read in parts of 32. Four lanes share a part: lane
/// c has elements 4 c to 4 c + 3 and 16 + 4 c to 16 + 4 c + 3. Blocks may begin at any even address.

#include <cuda_bf16.h>

#include "backend/cuda/weight_element.cuh"

namespace moe::cuda::blocks_of {

constexpr int kPart = 32;

/// A lane's codes of a part, as pairs of bf16: the first two pairs from the first half of the part.
using Codes = unsigned[4];

__device__ inline unsigned two_bytes(const uint8_t* from) { return *reinterpret_cast<const uint16_t*>(from); }
__device__ inline unsigned four_bytes(const uint8_t* from) { return two_bytes(from) | two_bytes(from + 2) << 16; }

/// 0x4300 | b is the bf16 number 128 + b if b is below 128.
constexpr unsigned kFrom128 = 0x43434343u, kLowPair = 0x4140u, kHighPair = 0x4342u;

__device__ inline unsigned difference(unsigned a, unsigned b) {
  const __nv_bfloat162 result =
      __hsub2(*reinterpret_cast<const __nv_bfloat162*>(&a), *reinterpret_cast<const __nv_bfloat162*>(&b));
  return *reinterpret_cast<const unsigned*>(&result);
}

/// Four bytes below 128, less `offset` (a multiple of 8 up to 32).
template <int offset>
__device__ void small_codes(unsigned bytes, unsigned& first, unsigned& second) {
  static_assert(offset % 8 == 0 && offset < 128);
  constexpr unsigned kOffset = (0x4300u + offset) * 0x10001u;
  first = difference(__byte_perm(bytes, kFrom128, kLowPair), kOffset);
  second = difference(__byte_perm(bytes, kFrom128, kHighPair), kOffset);
}

/// Four bytes with signs: the low seven bits, less 128 where the eighth is set.
__device__ inline void signed_codes(unsigned bytes, unsigned& first, unsigned& second) {
  const auto pair = [](unsigned p) { return difference(p & 0xff7fff7fu, p & 0xff80ff80u); };
  first = pair(__byte_perm(bytes, kFrom128, kLowPair));
  second = pair(__byte_perm(bytes, kFrom128, kHighPair));
}

/// Four bits as the fifth bit of four bytes.
__device__ inline unsigned fifth_bits(unsigned bits) { return ((bits & 15u) * 0x00204081u & 0x01010101u) << 4; }

/// The scale and the minimum of part `part` of a block of 256 with both in 6 bits.
__device__ inline void line_scale(const uint8_t* block, int part, float& step, float& minimum) {
  const uint8_t* const scales = block + 4;
  int scale, low;
  if (part < 4) {
    scale = scales[part] & 63, low = scales[part + 4] & 63;
  } else {
    scale = (scales[part + 4] & 15) | (scales[part - 4] >> 6) << 4;
    low = scales[part + 4] >> 4 | (scales[part] >> 6) << 4;
  }
  step = __fmul_rn(other_weights::half_at(block), static_cast<float>(scale));
  minimum = -__fmul_rn(other_weights::half_at(block + 2), static_cast<float>(low));
}

/// a & b | c, which the compiler would do in two steps if b and c are constants.
__device__ inline unsigned and_or(unsigned a, unsigned b, unsigned c) {
  unsigned result;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
}

/// Four bits each from places i and i + 4 of a word of eight, as bf16 numbers 128 more.
__device__ inline unsigned nibble_pair(unsigned word, int i) { return and_or(word >> 4 * i, 0x000f000fu, 0x43004300u); }
/// Bytes i and i + 2 of a word: 128 and the low seven bits, and what is to be added: -128, or -256 for a negative one.
__device__ inline unsigned byte_pair(unsigned word, int i) { return and_or(word >> 8 * i, 0x007f007fu, 0x43004300u); }
__device__ inline unsigned sign_pair(unsigned word, int i) { return and_or(word >> 8 * i, 0x00800080u, 0xc300c300u); }

// Each type has: kElements and kBytes of a block; kStage, the blocks of a row that a warp copies at a time; kMinimum,
// whether a minimum is added to the product of step and code; kSteps, the scales of a part (two: one for each half).

struct Simple {
  static constexpr int kElements = 32, kSteps = 1;
  static constexpr bool kMinimum = false;
  __device__ static void scale(const uint8_t* block, int, float (&step)[1], float&) {
    step[0] = other_weights::half_at(block);
  }
};
struct Affine : Simple {
  static constexpr bool kMinimum = true;
  __device__ static void scale(const uint8_t* block, int, float (&step)[1], float& minimum) {
    step[0] = other_weights::half_at(block), minimum = other_weights::half_at(block + 2);
  }
};
struct Lines {
  static constexpr int kElements = 256, kStage = 1, kSteps = 1;
  static constexpr bool kMinimum = true;
  __device__ static void scale(const uint8_t* block, int part, float (&step)[1], float& minimum) {
    line_scale(block, part, step[0], minimum);
  }
};

struct Q8_0 : Simple {
  static constexpr int kBytes = 34, kStage = 4;
  __device__ static void codes(const uint8_t* block, int, int c, Codes& out) {
    signed_codes(four_bytes(block + 2 + 4 * c), out[0], out[1]);
    signed_codes(four_bytes(block + 18 + 4 * c), out[2], out[3]);
  }
};

/// Bytes of two codes of four bits, with fifth bits in `high` or none.
template <int offset>
__device__ void nibbles(const uint8_t* q, int c, unsigned low_fifth, unsigned high_fifth, Codes& out) {
  const unsigned bytes = four_bytes(q + 4 * c);
  small_codes<offset>((bytes & 0x0f0f0f0fu) | low_fifth, out[0], out[1]);
  small_codes<offset>((bytes >> 4 & 0x0f0f0f0fu) | high_fifth, out[2], out[3]);
}
template <int offset>
__device__ void fives(const uint8_t* high, const uint8_t* q, int c, Codes& out) {
  nibbles<offset>(q, c, fifth_bits(two_bytes(high) >> 4 * c), fifth_bits(two_bytes(high + 2) >> 4 * c), out);
}

struct Q4_0 : Simple {
  static constexpr int kBytes = 18, kStage = 8;
  __device__ static void codes(const uint8_t* block, int, int c, Codes& out) { nibbles<8>(block + 2, c, 0, 0, out); }
};
struct Q4_1 : Affine {
  static constexpr int kBytes = 20, kStage = 8;
  __device__ static void codes(const uint8_t* block, int, int c, Codes& out) { nibbles<0>(block + 4, c, 0, 0, out); }
};
struct Q5_0 : Simple {
  static constexpr int kBytes = 22, kStage = 6;
  __device__ static void codes(const uint8_t* block, int, int c, Codes& out) {
    fives<16>(block + 2, block + 6, c, out);
  }
};
struct Q5_1 : Affine {
  static constexpr int kBytes = 24, kStage = 6;
  __device__ static void codes(const uint8_t* block, int, int c, Codes& out) { fives<0>(block + 4, block + 8, c, out); }
};

/// The bytes' low or high four bits, of an even or odd part.
__device__ inline unsigned nibbles_of(const uint8_t* q, int odd) { return four_bytes(q) >> 4 * odd & 0x0f0f0f0fu; }

struct Q4K : Lines {
  static constexpr int kBytes = 144;
  __device__ static void codes(const uint8_t* block, int part, int c, Codes& out) {
    const uint8_t* const q = block + 16 + part / 2 * 32 + 4 * c;
    small_codes<0>(nibbles_of(q, part % 2), out[0], out[1]);
    small_codes<0>(nibbles_of(q + 16, part % 2), out[2], out[3]);
  }
};
struct Q5K : Lines {
  static constexpr int kBytes = 176;
  __device__ static void codes(const uint8_t* block, int part, int c, Codes& out) {
    const uint8_t *const q = block + 48 + part / 2 * 32 + 4 * c, *const high = block + 16 + 4 * c;
    const auto fifth = [&](const uint8_t* bits) { return (four_bytes(bits) >> part & 0x01010101u) << 4; };
    small_codes<0>(nibbles_of(q, part % 2) | fifth(high), out[0], out[1]);
    small_codes<0>(nibbles_of(q + 16, part % 2) | fifth(high + 16), out[2], out[3]);
  }
};
struct Q6K {
  static constexpr int kElements = 256, kBytes = 210, kStage = 1, kSteps = 2;
  static constexpr bool kMinimum = false;
  __device__ static void scale(const uint8_t* block, int part, float (&step)[2], float&) {
    const float d = other_weights::half_at(block + 208);
    const auto* const scales = reinterpret_cast<const int8_t*>(block + 192) + 2 * part;
    step[0] = __fmul_rn(d, static_cast<float>(scales[0]));
    step[1] = __fmul_rn(d, static_cast<float>(scales[1]));
  }
  __device__ static void codes(const uint8_t* block, int part, int c, Codes& out) {
    const int half = part / 4, run = part % 4;
    const uint8_t *const low = block + half * 64 + run % 2 * 32 + 4 * c, *const high = block + 128 + half * 32 + 4 * c;
    const auto code = [&](int at) {
      return nibbles_of(low + at, run / 2) | (four_bytes(high + at) >> 2 * run & 0x03030303u) << 4;
    };
    small_codes<32>(code(0), out[0], out[1]);
    small_codes<32>(code(16), out[2], out[3]);
  }
};

/// Four blocks together (tensor/blocks/layout.h). The kernel for few rows reads these itself (weight_lines.cuh).
struct Together : Simple {
  static constexpr int kElements = 128;
  __device__ static void scale(const uint8_t* block, int part, float (&step)[1], float&) {
    step[0] = other_weights::half_at(block + 2 * part);
  }
};
struct Q8_0x4 : Together {
  static constexpr int kBytes = 136;
  __device__ static void codes(const uint8_t* block, int part, int c, Codes& out) {
    const uint8_t* const q = block + 8 + part * kPart + 4 * c;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const unsigned word = four_bytes(q + 16 * half);
      for (int i = 0; i < 2; ++i) out[2 * half + i] = difference(byte_pair(word, i), sign_pair(word, i) ^ 0x80008000u);
    }
  }
};
struct Q4_0x4 : Together {
  static constexpr int kBytes = 72;
  __device__ static void codes(const uint8_t* block, int part, int c, Codes& out) {
    const uint8_t* const q = block + 8 + part / 2 * kPart + part % 2 * 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const unsigned word = four_bytes(q + 8 * (c / 2 + 2 * half));
      for (int i = 0; i < 2; ++i) out[2 * half + i] = difference(nibble_pair(word, c % 2 * 2 + i), 0x43084308u);
    }
  }
};

}  // namespace moe::cuda::blocks_of

namespace moe::cuda {

/// Calls use(type) with the struct of a type in blocks.
template <class Use>
void with_block_type(DType type, Use use) {
  switch (type) {
    case DType::q8_0:
      return use(blocks_of::Q8_0{});
    case DType::q4_0:
      return use(blocks_of::Q4_0{});
    case DType::q4_1:
      return use(blocks_of::Q4_1{});
    case DType::q5_0:
      return use(blocks_of::Q5_0{});
    case DType::q5_1:
      return use(blocks_of::Q5_1{});
    case DType::q4_k:
      return use(blocks_of::Q4K{});
    case DType::q5_k:
      return use(blocks_of::Q5K{});
    case DType::q6_k:
      return use(blocks_of::Q6K{});
    case DType::q8_0x4:
      return use(blocks_of::Q8_0x4{});
    case DType::q4_0x4:
      return use(blocks_of::Q4_0x4{});
    default:
      MOE_CHECK(!"a type in blocks");
  }
}

/// True for the types of with_block_type(): their codes are small integers, which those of nf4 are not.
inline bool is_block_weight(DType type) { return is_other_weight(type) && !is_plain(type) && type != DType::nf4; }

}  // namespace moe::cuda
