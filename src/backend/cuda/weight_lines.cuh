#pragma once
/// How the kernel for few rows reads weights: in lines, 64 or 128 numbers of a row, for the tensor cores. A warp takes
/// a line of 16 rows at a time. A line has parts of 32 numbers; of each part lane c of four has numbers 8 c to 8 c + 7.

#include "backend/cuda/block_types.cuh"

namespace moe::cuda::lines {

constexpr int kPart = 32;           ///< numbers that may share a scale
constexpr int kOfLane = kPart / 4;  ///< numbers of a part that a lane holds

/// Weights are read once, so they should not push x out of the L1 cache, nor others out of the L2 cache.
__device__ inline uint4 load_16(const uint8_t* from, uint64_t policy) {
  uint4 bits;
  asm volatile("ld.global.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
               : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
               : "l"(from), "l"(policy));
  return bits;
}
/// Lines in blocks begin in the middle of what a memory access brings, so the L1 cache keeps the rest for the next
/// line.
__device__ inline uint2 load_8(const uint8_t* from, uint64_t policy) {
  uint2 bits;
  asm volatile("ld.global.L2::cache_hint.v2.u32 {%0, %1}, [%2], %3;"
               : "=r"(bits.x), "=r"(bits.y)
               : "l"(from), "l"(policy));
  return bits;
}

/// Each type of lines has: kLine numbers in kBytes bytes; kScaled, whether each part has a scale; Held, what a lane
/// holds of a line; bytes(), from numbers in whole lines; load(), where `left` numbers of the row are left from the
/// lane's first one on (rows in blocks are whole lines). term(): kTerms numbers for each of the lane's numbers of a
/// part, as four pairs of bf16. Their sum, plus kOffset (the same pair everywhere, 0: none), times the part's scale is
/// the number itself. The tensor cores add them up, which costs fewer instructions than to do it before.
struct Bf16 {
  static constexpr int kLine = 64, kBytes = 2 * kLine, kParts = kLine / kPart, kTerms = 1;
  static constexpr bool kScaled = false;
  static constexpr unsigned kOffset = 0;
  struct Held {
    uint4 part[kParts];
  };
  __device__ static int64_t bytes(int64_t numbers) { return 2 * numbers; }
  __device__ static void load(Held& held, const uint8_t* line, int lane, int left, uint64_t policy) {
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      held.part[part] = part * kPart < left ? load_16(line + 2 * (part * kPart + lane * kOfLane), policy) : uint4{};
    }
  }
  __device__ static uint4 term(const Held& held, int part, int) { return held.part[part]; }
  __device__ static float scale(const Held&, int) { return 1; }
};

/// Four scales (f16) begin a line in blocks.
constexpr int kScaleBytes = 8;
__device__ inline float scale_of(const uint2& scales, int part) {
  const __half2 two = *reinterpret_cast<const __half2*>(part < 2 ? &scales.x : &scales.y);
  return part % 2 == 0 ? __low2float(two) : __high2float(two);
}

struct Q8_0x4 {
  static constexpr int kLine = 128, kBytes = kScaleBytes + kLine, kParts = kLine / kPart, kTerms = 2;
  static constexpr bool kScaled = true;
  static constexpr unsigned kOffset = 0;
  struct Held {
    uint2 scales, part[kParts];
  };
  __device__ static int64_t bytes(int64_t numbers) { return numbers / kLine * kBytes; }
  __device__ static void load(Held& held, const uint8_t* line, int lane, int, uint64_t policy) {
    held.scales = load_8(line, policy);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      held.part[part] = load_8(line + kScaleBytes + part * kPart + lane * kOfLane, policy);
    }
  }
  __device__ static uint4 term(const Held& held, int part, int term) {
    const uint2 words = held.part[part];
    if (term == 0) {
      return {blocks_of::byte_pair(words.x, 0), blocks_of::byte_pair(words.x, 1), blocks_of::byte_pair(words.y, 0),
              blocks_of::byte_pair(words.y, 1)};
    }
    return {blocks_of::sign_pair(words.x, 0), blocks_of::sign_pair(words.x, 1), blocks_of::sign_pair(words.y, 0),
            blocks_of::sign_pair(words.y, 1)};
  }
  __device__ static float scale(const Held& held, int part) { return scale_of(held.scales, part); }
};

struct Q4_0x4 {
  static constexpr int kLine = 128, kBytes = kScaleBytes + kLine / 2, kParts = kLine / kPart, kTerms = 1;
  static constexpr bool kScaled = true;
  static constexpr unsigned kOffset = 0xc308c308;  // -136
  struct Held {
    uint2 scales, parts[kParts / 2];  ///< of two parts each
  };
  __device__ static int64_t bytes(int64_t numbers) { return numbers / kLine * kBytes; }
  __device__ static void load(Held& held, const uint8_t* line, int lane, int, uint64_t policy) {
    held.scales = load_8(line, policy);
#pragma unroll
    for (int two = 0; two < kParts / 2; ++two) {
      held.parts[two] = load_8(line + kScaleBytes + two * kPart + lane * kOfLane, policy);
    }
  }
  __device__ static uint4 term(const Held& held, int part, int) {
    const unsigned word = part % 2 == 0 ? held.parts[part / 2].x : held.parts[part / 2].y;
    return {blocks_of::nibble_pair(word, 0), blocks_of::nibble_pair(word, 1), blocks_of::nibble_pair(word, 2),
            blocks_of::nibble_pair(word, 3)};
  }
  __device__ static float scale(const Held& held, int part) { return scale_of(held.scales, part); }
};

}  // namespace moe::cuda::lines

namespace moe::cuda {

/// The types that are read in lines of blocks.
inline bool is_line_weight(DType type) { return type == DType::q8_0x4 || type == DType::q4_0x4; }

/// Calls use(type) with the struct of a type of lines.
template <class Use>
void with_lines(DType type, Use use) {
  switch (type) {
    case DType::bf16:
      return use(lines::Bf16{});
    case DType::q8_0x4:
      return use(lines::Q8_0x4{});
    case DType::q4_0x4:
      return use(lines::Q4_0x4{});
    default:
      MOE_CHECK(!"a type in lines");
  }
}

}  // namespace moe::cuda
