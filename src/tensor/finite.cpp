#include "tensor/finite.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace moe {
namespace {

constexpr int64_t kAtOnce = 4096;  // whole blocks of any type

/// `exponent`: the bits of the exponent, which are all 1 in infinities and NaNs alone. Compilers turn this into a few
/// vector instructions; `data` need not be aligned.
template <class Bits>
bool all_finite(const char* data, int64_t count, Bits exponent) {
  Bits found = 0;
  for (int64_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, data + i * static_cast<int64_t>(sizeof(bits)), sizeof(bits));
    found = static_cast<Bits>(found | ((bits & exponent) == exponent ? 1 : 0));
  }
  return found == 0;
}

/// True if all blocks have finite f16 numbers: the codes beside them are integers, so the elements are finite. `first`
/// and `second` are where a block has them.
bool halves_are_finite(const char* data, int64_t blocks, int64_t bytes, int64_t first, int64_t second) {
  constexpr uint16_t kExponent = 0x7c00;
  bool found = false;
  for (int64_t i = 0; i < blocks; ++i) {
    uint16_t a, b;
    std::memcpy(&a, data + i * bytes + first, sizeof(a));
    std::memcpy(&b, data + i * bytes + second, sizeof(b));
    found |= (a & kExponent) == kExponent || (b & kExponent) == kExponent;
  }
  return !found;
}

bool blocks_are_finite(DType dtype, const char* data, int64_t count) {
  const StorageType& type = storage(dtype);
  const auto check = [&](int64_t first, int64_t second) {
    return halves_are_finite(data, count / type.block, type.bytes, first, second);
  };
  switch (dtype) {
    case DType::q8_0:
    case DType::q4_0:
    case DType::q5_0:
      return check(0, 0);
    case DType::q4_1:
    case DType::q5_1:
    case DType::q4_k:
    case DType::q5_k:
      return check(0, 2);
    case DType::q6_k:
      return check(208, 208);
    case DType::q8_0x4:
    case DType::q4_0x4:
      return check(0, 2) && check(4, 6);
    default:
      return false;  // not known: the numbers themselves say
  }
}

bool all_finite(DType dtype, const char* data, int64_t count, std::vector<float>& floats) {
  if (dtype == DType::f32) return all_finite<uint32_t>(data, count, 0x7f800000);
  if (dtype == DType::bf16) return all_finite<uint16_t>(data, count, 0x7f80);
  if (dtype == DType::f16) return all_finite<uint16_t>(data, count, 0x7c00);
  if (dtype == DType::f64) return all_finite<uint64_t>(data, count, 0x7ff0000000000000);
  if (blocks_are_finite(dtype, data, count)) return true;
  floats.resize(static_cast<size_t>(count));
  storage(dtype).to_floats(data, floats.data(), count);
  return all_finite<uint32_t>(reinterpret_cast<const char*>(floats.data()), count, 0x7f800000);
}

}  // namespace

int64_t first_not_finite(DType dtype, const void* data, int64_t count) {
  if (!is_float(dtype)) return -1;
  std::vector<float> floats;
  const auto at = [&](int64_t element) { return static_cast<const char*>(data) + bytes_of(dtype, element); };
  for (int64_t begin = 0; begin < count; begin += kAtOnce) {
    const int64_t here = std::min(kAtOnce, count - begin);
    if (all_finite(dtype, at(begin), here, floats)) continue;
    for (int64_t block = storage(dtype).block, i = begin;; i += block) {
      if (all_finite(dtype, at(i), block, floats)) continue;
      if (block == 1) return i;
      for (int64_t j = 0; j < block; ++j) {
        if (!std::isfinite(floats[static_cast<size_t>(j)])) return i + j;
      }
    }
  }
  return -1;
}

}  // namespace moe
