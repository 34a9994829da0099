#pragma once
/// Elements of weights in types that no fast kernel reads: f16, and blocks of quantised numbers (tensor/blocks/layout.h
/// has their layout). One element at a time: right, not fast. The numbers are those of StorageType::to_floats, bit for
/// bit, so nothing here may be contracted to a fused multiplication and addition.

#include <cuda_fp16.h>

#include "backend/cuda/kernel.cuh"
#include "ops/type_set.h"
#include "tensor/blocks/nf4_numbers.h"

namespace moe::cuda {

/// The types that weight_element() reads.
constexpr TypeSet kOtherWeights{DType::f16,  DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0,   DType::q5_1,
                                DType::q4_k, DType::q5_k, DType::q6_k, DType::nf4,  DType::q8_0x4, DType::q4_0x4};
inline bool is_other_weight(DType type) { return kOtherWeights.has(type); }

namespace other_weights {

/// A number of 16 bits, which may begin at any even address.
__device__ inline float half_at(const uint8_t* bytes) { return __half2float(*reinterpret_cast<const __half*>(bytes)); }

/// d (q - offset), and d q + m.
__device__ inline float symmetric(const uint8_t* block, int q, int offset) {
  return __fmul_rn(half_at(block), static_cast<float>(q - offset));
}
__device__ inline float affine(const uint8_t* block, int q) {
  return __fadd_rn(__fmul_rn(half_at(block), static_cast<float>(q)), half_at(block + 2));
}

/// Element i of 32: its low four bits in `q`, and its fifth bit in `high`.
__device__ inline int low_bits(const uint8_t* q, int i) { return i < 16 ? q[i] & 15 : q[i - 16] >> 4; }
__device__ inline int fifth_bit(const uint8_t* high, int i) { return (high[i / 8] >> i % 8 & 1) << 4; }

/// Element i of 256 in parts of 32 with scale and minimum of 6 bits each; `code`: the element's number.
__device__ inline float line(const uint8_t* block, int i, int code) {
  const uint8_t* const scales = block + 4;
  const int part = i / 32;
  int scale, minimum;
  if (part < 4) {
    scale = scales[part] & 63, minimum = scales[part + 4] & 63;
  } else {
    scale = (scales[part + 4] & 15) | (scales[part - 4] >> 6) << 4;
    minimum = scales[part + 4] >> 4 | (scales[part] >> 6) << 4;
  }
  const float step = __fmul_rn(half_at(block), static_cast<float>(scale));
  const float floor = __fmul_rn(half_at(block + 2), static_cast<float>(minimum));
  return __fsub_rn(__fmul_rn(step, static_cast<float>(code)), floor);
}
/// The low four bits of element i of 256.
__device__ inline int line_bits(const uint8_t* q, int i) {
  const int byte = q[i / 64 * 32 + i % 32];
  return i / 32 % 2 == 0 ? byte & 15 : byte >> 4;
}

__device__ inline float q6_k(const uint8_t* block, int i) {
  const uint8_t *const low = block, *const high = block + 128;
  const auto* const scales = reinterpret_cast<const int8_t*>(block + 192);
  const int low_byte = low[i / 128 * 64 + i % 64], high_byte = high[i / 128 * 32 + i % 32];
  const int q = (low_byte >> (i % 128 < 64 ? 0 : 4) & 15) | (high_byte >> i % 128 / 32 * 2 & 3) << 4;
  const float step = __fmul_rn(half_at(block + 208), static_cast<float>(scales[i / 16]));
  return __fmul_rn(step, static_cast<float>(q - 32));
}

/// Element i of 128, whose blocks of 32 have their scales before all codes.
__device__ inline float q8_0x4(const uint8_t* block, int i) {
  return symmetric(block + i / 32 * 2,
                   reinterpret_cast<const int8_t*>(block + 8)[i % 4 == 1   ? i + 1
                                                              : i % 4 == 2 ? i - 1
                                                                           : i],
                   0);
}
__device__ inline float q4_0x4(const uint8_t* block, int i) {
  const int byte = block[8 + i / 64 * 32 + i % 32 / 8 * 8 + i / 32 % 2 * 4 + i % 2 * 2 + i % 8 / 4];
  return __fmul_rn(half_at(block + i / 32 * 2), static_cast<float>((byte >> i / 2 % 2 * 4 & 15) - 8));
}

__device__ constexpr Nf4Numbers kNf4 = kNf4Numbers;

/// Element i of a block of 64. Blocks begin at multiples of 4.
__device__ inline float nf4(const uint8_t* block, int i) {
  const int byte = block[4 + i / 2];
  return __fmul_rn(kNf4.at[i % 2 == 0 ? byte >> 4 : byte & 15], *reinterpret_cast<const float*>(block));
}

}  // namespace other_weights

/// Element `at` of a tensor whose rows are whole blocks, which lie one behind the other.
__device__ inline float weight_element(DType type, const void* data, int64_t at) {
  using namespace other_weights;
  const auto* const bytes = static_cast<const uint8_t*>(data);
  const int i = static_cast<int>(at % 32), k = static_cast<int>(at % 256);
  switch (type) {
    case DType::f16:
      return half_at(bytes + at * 2);
    case DType::q8_0: {
      const uint8_t* const block = bytes + at / 32 * 34;
      return symmetric(block, reinterpret_cast<const int8_t*>(block + 2)[i], 0);
    }
    case DType::q4_0: {
      const uint8_t* const block = bytes + at / 32 * 18;
      return symmetric(block, low_bits(block + 2, i), 8);
    }
    case DType::q4_1: {
      const uint8_t* const block = bytes + at / 32 * 20;
      return affine(block, low_bits(block + 4, i));
    }
    case DType::q5_0: {
      const uint8_t* const block = bytes + at / 32 * 22;
      return symmetric(block, low_bits(block + 6, i) | fifth_bit(block + 2, i), 16);
    }
    case DType::q5_1: {
      const uint8_t* const block = bytes + at / 32 * 24;
      return affine(block, low_bits(block + 8, i) | fifth_bit(block + 4, i));
    }
    case DType::q4_k: {
      const uint8_t* const block = bytes + at / 256 * 144;
      return line(block, k, line_bits(block + 16, k));
    }
    case DType::q5_k: {
      const uint8_t* const block = bytes + at / 256 * 176;
      const int fifth = block[16 + k % 32] >> k / 32 & 1;
      return line(block, k, line_bits(block + 48, k) | fifth << 4);
    }
    case DType::q6_k:
      return q6_k(bytes + at / 256 * 210, k);
    case DType::q8_0x4:
      return q8_0x4(bytes + at / 128 * 136, static_cast<int>(at % 128));
    case DType::q4_0x4:
      return q4_0x4(bytes + at / 128 * 72, static_cast<int>(at % 128));
    case DType::nf4:
      return nf4(bytes + at / 64 * 36, static_cast<int>(at % 64));
    default:
      return NAN;  // the backend does not accept it
  }
}

}  // namespace moe::cuda
