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

TEST(Finite, TheFirstElementThatIsNotIsFoundInPlainTypes) {
  const float large = 3e38F, tiny = 1e-40F;
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
    std::vector<float> values(kElements, 1.5F);
    values[3] = dtype == DType::f16 ? 65504.0F : large;
    values[4] = tiny;
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
  for (const DType dtype :
       {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q4_k, DType::q5_k, DType::q6_k}) {
    std::vector<char> bytes = stored(dtype, values);
    EXPECT_EQ(first_not_finite(dtype, bytes.data(), kElements), -1) << name(dtype);
    const int64_t block = storage(dtype).block, last = kElements / block - 1;
    const int64_t scale = last * storage(dtype).bytes + (dtype == DType::q6_k ? 208 : 0);
    bytes[static_cast<size_t>(scale)] = 0;
    bytes[static_cast<size_t>(scale) + 1] = 0x7c;  // infinity in f16
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
