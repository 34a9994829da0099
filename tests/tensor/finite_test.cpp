// Numbers that are not finite are found at every place of every float type.

#include "tensor/finite.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace moe {
namespace {

constexpr int64_t kElements = 4096 + 512;  // more than are examined at once; whole blocks of any type

std::vector<char> stored(DType dtype, const std::vector<float>& values) {
  std::vector<char> bytes(static_cast<size_t>(bytes_of(dtype, kElements)));
  storage(dtype).from_floats(values.data(), bytes.data(), kElements);
  return bytes;
}

/// The largest power of two that the type holds.
float largest(const StorageType& type) {
  for (float value = 0x1p127F;; value /= 2) {
    std::vector<char> bytes(static_cast<size_t>(type.bytes));
    type.from_floats(&value, bytes.data(), 1);
    float again;
    type.to_floats(bytes.data(), &again, 1);
    if (again == value) return value;
  }
}

TEST(Finite, TheFirstElementThatIsNotIsFoundInPlainTypes) {
  for (const StorageType& type : kStorageTypes) {
    if (type.to_floats == nullptr || !is_plain(type.dtype)) continue;
    const DType dtype = type.dtype;
    std::vector<float> values(kElements, 1.5F);
    values[3] = largest(type);
    values[4] = 1e-40F;
    values[5] = -0.0F;
    EXPECT_EQ(first_not_finite(dtype, stored(dtype, values).data(), kElements), -1) << name(dtype);
    for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
      for (const int64_t at : {int64_t{0}, int64_t{1}, int64_t{4095}, int64_t{4096}, kElements - 1}) {
        std::vector<float> poisoned = values;
        poisoned[static_cast<size_t>(at)] = bad;
        poisoned.back() = bad;
        const std::vector<char> bytes = stored(dtype, poisoned);
        EXPECT_EQ(first_not_finite(dtype, bytes.data(), kElements), at) << name(dtype) << " " << bad;
        EXPECT_EQ(first_not_finite(dtype, bytes.data(), at), -1) << name(dtype) << " before it";
      }
    }
  }
}

TEST(Finite, ABlockWithAScaleThatIsNotIsFound) {
  const std::vector<float> values(kElements, 1.5F);
  for (const StorageType& type : kStorageTypes) {
    if (type.to_floats == nullptr || is_plain(type.dtype)) continue;
    const DType dtype = type.dtype;
    std::vector<char> bytes = stored(dtype, values);
    EXPECT_EQ(first_not_finite(dtype, bytes.data(), kElements), -1) << name(dtype);
    const int64_t block = storage(dtype).block, last = kElements / block - 1;
    // Wherever the scale is, it is not finite, as f16 and as f32.
    for (auto at = static_cast<size_t>(last * type.bytes); at + 1 < bytes.size(); at += 2) {
      bytes[at] = static_cast<char>(0x80);
      bytes[at + 1] = 0x7f;
    }
    const int64_t found = first_not_finite(dtype, bytes.data(), kElements);
    EXPECT_GE(found, last * block) << name(dtype);
    EXPECT_LT(found, kElements) << name(dtype);
  }
}

TEST(Finite, IntegersAreNotExamined) {
  const std::vector<int32_t> values(10, -1);
  EXPECT_EQ(first_not_finite(DType::i32, values.data(), 10), -1);
}

}  // namespace
}  // namespace moe
