#pragma once
/// float16 storage: IEEE 754 binary16.

#include <cstdint>
#include <cstring>

namespace moe {

struct f16 {
  uint16_t bits;
};

/// Exact; a NaN stays a (quiet) NaN.
inline float to_float(f16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  const auto from_bits = [](uint32_t bits) {
    float result;
    std::memcpy(&result, &bits, sizeof(result));
    return result;
  };
  if (magnitude >= 0x7c00u) {  // infinity, or a NaN
    return from_bits(sign | 0x7f800000u | magnitude << 13 | (magnitude > 0x7c00u ? 0x400000u : 0u));
  }
  // With these bits, the f32 number is 2^112 times too small, also for numbers below the normal range.
  const float scaled = from_bits(magnitude << 13) * 0x1p112f;
  uint32_t bits;
  std::memcpy(&bits, &scaled, sizeof(bits));
  return from_bits(sign | bits);
}

/// Rounds to nearest, ties to even. Numbers that are too large become infinity; a NaN stays a (quiet) NaN.
inline f16 to_f16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  const auto signed_bits = [&](uint32_t half) { return f16{static_cast<uint16_t>(sign | half)}; };
  if (magnitude > 0x7f800000u) return signed_bits(0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x477ff000u) return signed_bits(0x7c00u);  // 65520 and more
  if (magnitude < 0x38800000u) {                              // below the normal range: a multiple of 2^-24
    float number, sum;
    std::memcpy(&number, &magnitude, sizeof(number));
    sum = number + 0.5f;  // whose last bit is 2^-24: the addition rounds
    std::memcpy(&bits, &sum, sizeof(bits));
    return signed_bits(bits - 0x3f000000u);
  }
  return signed_bits((magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13);
}

}  // namespace moe
