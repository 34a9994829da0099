// Blocks of the GGUF types, by hand; tests/gguf compares them with the format's own package.

#include "tensor/blocks/blocks.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "tensor/dtype.h"

namespace moe {
namespace {

constexpr DType kBlockTypes[] = {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0,   DType::q5_1,  DType::q4_k,
                                 DType::q5_k, DType::q6_k, DType::nf4,  DType::q8_0x4, DType::q4_0x4};

std::vector<float> read(DType type, const std::vector<uint8_t>& bytes) {
  std::vector<float> values(static_cast<size_t>(storage(type).block));
  EXPECT_EQ(static_cast<int64_t>(bytes.size()), storage(type).bytes);
  storage(type).to_floats(bytes.data(), values.data(), storage(type).block);
  return values;
}

std::vector<float> there_and_back(DType type, const std::vector<float>& values) {
  const auto elements = static_cast<int64_t>(values.size());
  std::vector<uint8_t> bytes(static_cast<size_t>(bytes_of(type, elements)));
  std::vector<float> result(values.size());
  storage(type).from_floats(values.data(), bytes.data(), elements);
  storage(type).to_floats(bytes.data(), result.data(), elements);
  return result;
}

/// A block of `bytes` zeros with the f16 number 1.0 at each of `ones` and `value` at `at`.
std::vector<uint8_t> block(size_t bytes, const std::vector<size_t>& ones, size_t at, uint8_t value) {
  std::vector<uint8_t> result(bytes);
  for (const size_t i : ones) result[i + 1] = 0x3c;
  result[at] = value;
  return result;
}

TEST(Blocks, OfThirtyTwoHoldTheirElementsWhereTheFormatSays) {
  EXPECT_EQ(read(DType::q8_0, block(34, {0}, 2 + 5, 0xfe))[5], -2.0f);
  const auto four = read(DType::q4_0, block(18, {0}, 2 + 3, 0x9c));
  EXPECT_EQ(four[3], 4.0f);
  EXPECT_EQ(four[19], 1.0f);
  EXPECT_EQ(four[0], -8.0f);
  const auto with_minimum = read(DType::q4_1, block(20, {0, 2}, 4 + 3, 0x9c));
  EXPECT_EQ(with_minimum[3], 13.0f);
  EXPECT_EQ(with_minimum[19], 10.0f);
  const auto five = read(DType::q5_0, block(22, {0}, 2 + 1, 0x10));  // the high bit of element 12
  EXPECT_EQ(five[12], 0.0f);
  EXPECT_EQ(five[11], -16.0f);
  EXPECT_EQ(read(DType::q5_1, block(24, {0, 2}, 4 + 3, 0x80))[31], 17.0f);
}

TEST(Blocks, RearrangedOnesHoldTheirElementsWhereTheLayoutSays) {
  // Scales 1.0 of blocks 1 and 2; other blocks are zeros.
  EXPECT_EQ(read(DType::q8_0x4, block(136, {2, 4}, 8 + 32 + 4, 0xfe))[32 + 4], -2.0f);
  EXPECT_EQ(read(DType::q8_0x4, block(136, {2, 4}, 8 + 32 + 5, 0xfe))[32 + 6], -2.0f);
  EXPECT_EQ(read(DType::q8_0x4, block(136, {2, 4}, 8 + 32 + 6, 0xfe))[32 + 5], -2.0f);
  // Word 4 of block 1 (elements 16 to 23): byte 1 has places 2 and 3, elements 20 and 22.
  const auto four = read(DType::q4_0x4, block(72, {2, 4}, 8 + 2 * 8 + 4 + 1, 0x9c));
  EXPECT_EQ(four[32 + 20], 4.0f);
  EXPECT_EQ(four[32 + 22], 1.0f);
  EXPECT_EQ(four[32 + 21], -8.0f);
  EXPECT_EQ(four[64 + 20], -8.0f);
  EXPECT_EQ(four[20], 0.0f);
  // Byte 3 has places 6 and 7, elements 2 * 2 + 1 and 2 * 3 + 1 of the word; block 2 is in the second half.
  const auto odd = read(DType::q4_0x4, block(72, {2, 4}, 8 + 32 + 8 + 3, 0x9c));
  EXPECT_EQ(odd[64 + 8 + 5], 4.0f);
  EXPECT_EQ(odd[64 + 8 + 7], 1.0f);
}

TEST(Blocks, RearrangedOnesAreTheSameNumbers) {
  for (const StorageType& type : kStorageTypes) {
    if (!is_rearranged(type.dtype)) continue;
    const StorageType& single = storage(type.rearranges);
    ASSERT_EQ(type.bytes * single.block, single.bytes * type.block);
    const int64_t elements = 3 * type.block;
    std::vector<uint8_t> bytes(static_cast<size_t>(bytes_of(single.dtype, elements))), moved(bytes.size());
    for (size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<uint8_t>(i * 151 % 251);  // also codes that the quantiser never writes
    for (int64_t block = 0; block < elements / single.block; ++block) {
      bytes[static_cast<size_t>(block * single.bytes + 1)] = static_cast<uint8_t>(0x38 + block % 8);  // finite scales
    }
    type.from_rearranged(bytes.data(), moved.data(), elements);
    std::vector<float> expected(static_cast<size_t>(elements)), found(expected);
    single.to_floats(bytes.data(), expected.data(), elements);
    type.to_floats(moved.data(), found.data(), elements);
    EXPECT_EQ(found, expected) << type.name;
    EXPECT_EQ(rearranged(single.dtype, type.block), type.dtype);
    EXPECT_EQ(rearranged(single.dtype, type.block + single.block), single.dtype);
  }
}

TEST(Blocks, OfManyHoldTheirElementsWhereTheFormatSays) {
  auto bytes = block(144, {0, 2}, 16 + 32 + 7, 0x25);  // element 7 of parts 2 and 3
  bytes[4 + 2] = 3 | 2 << 6;                           // scales of parts 2 and 6
  bytes[4 + 3] = 2;
  bytes[4 + 8 + 2] = 1;
  bytes[4 + 4 + 3] = 9;  // the minimum of part 3
  const auto q4 = read(DType::q4_k, bytes);
  EXPECT_EQ(q4[2 * 32 + 7], 15.0f);
  EXPECT_EQ(q4[3 * 32 + 7], 2.0f * 2 - 9);
  EXPECT_EQ(q4[6 * 32], 0.0f);
  bytes[16 + 3 * 32] = 1;  // part 6, whose scale is 1 + 2 * 16
  EXPECT_EQ(read(DType::q4_k, bytes)[6 * 32], 33.0f);

  auto five = block(176, {0, 2}, 16 + 7, 1 << 5);  // the high bit of element 7 of part 5
  five[4 + 8 + 1] = 2;
  EXPECT_EQ(read(DType::q5_k, five)[5 * 32 + 7], 32.0f);

  auto six = block(210, {208}, 64 + 40, 0xf0);  // the second half's element 104, with the low bits 15
  six[192 + (128 + 104) / 16] = 0xff;           // a scale of -1
  EXPECT_EQ(read(DType::q6_k, six)[128 + 104], -(15.0f - 32));
  six[128 + 32 + 8] = 2 << 6;
  EXPECT_EQ(read(DType::q6_k, six)[128 + 104], -(15.0f + 32 - 32));
}

TEST(Blocks, OfZerosAndOfOneNumberComeBack) {
  for (const DType type : kBlockTypes) {
    for (const float value : {0.0f, 1.0f, -1.0f, 0.25f}) {
      const std::vector<float> values(static_cast<size_t>(storage(type).block), value);
      for (const float found : there_and_back(type, values)) {
        ASSERT_NEAR(found, value, std::abs(value) * 2e-3) << name(type);
      }
    }
  }
}

// Of numbers from -1 to 1. q4_0 and q5_0 have one code less on one side, so that a number is up to a whole step away.
TEST(Blocks, AreNoFurtherThanAStepAway) {
  constexpr struct {
    DType type;
    double step;
  } kSteps[] = {{DType::q8_0, 1.0 / 127}, {DType::q4_0, 1.0 / 8},  {DType::q4_1, 2.0 / 15},
                {DType::q5_0, 1.0 / 16},  {DType::q5_1, 2.0 / 31}, {DType::q4_k, 2.0 / 15},
                {DType::q5_k, 2.0 / 31},  {DType::q6_k, 1.0 / 32}, {DType::nf4, 0.152}};
  for (const auto& [type, step] : kSteps) {
    std::vector<float> values(static_cast<size_t>(storage(type).block));
    for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i * 37 % 101));
    const auto found = there_and_back(type, values);
    for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(found[i], values[i], 1.001 * step) << name(type) << " " << i;
  }
}

TEST(Blocks, TakeNumbersOfAnySizeWithoutHarm) {
  constexpr float kOdd[] = {1e-45f, 1e-38f, 1e30f, std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()};
  for (const DType type : kBlockTypes) {
    for (const float odd : kOdd) {
      std::vector<float> values(static_cast<size_t>(storage(type).block), 0.5f);
      values[3] = odd;
      there_and_back(type, values);
      for (float& value : values) value = odd;
      const auto found = there_and_back(type, values);
      if (odd < 1e-30f) {
        for (const float value : found) EXPECT_LE(std::abs(value), odd) << name(type);
      }
    }
  }
}

/// The sum of squared differences on numbers that are nearly normal, and that of ggml's own reference quantiser on the
/// same numbers (d99724f2).
TEST(Blocks, WithSearchedScalesAreNoWorseThanTheReference) {
  constexpr struct {
    DType type;
    double reference;
  } kReferences[] = {{DType::q4_k, 80.951}, {DType::q5_k, 20.615}, {DType::q6_k, 4.9701}};
  std::vector<float> values(256 * 200);
  uint32_t state = 1;
  for (float& value : values) {
    double sum = -2;
    for (int i = 0; i < 4; ++i) {
      state = state * 1664525u + 1013904223u;
      sum += state / 4294967296.0;
    }
    value = static_cast<float>(sum);
  }
  for (const auto& [type, reference] : kReferences) {
    const auto found = there_and_back(type, values);
    double error = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      error += std::pow(static_cast<double>(found[i]) - static_cast<double>(values[i]), 2);
    }
    EXPECT_LE(error, reference) << name(type);
    EXPECT_GT(error, reference / 2) << name(type) << ": too good to be true";
  }
}

TEST(Blocks, RowsThatAreNotWholeBlocksHaveAnotherType) {
  EXPECT_EQ(type_for_rows(DType::q4_k, 2048), DType::q4_k);
  EXPECT_EQ(type_for_rows(DType::q4_k, 1408), DType::q5_0);
  EXPECT_EQ(type_for_rows(DType::q5_k, 10944), DType::q5_1);
  EXPECT_EQ(type_for_rows(DType::q6_k, 1408), DType::q8_0);
  EXPECT_EQ(type_for_rows(DType::q6_k, 100), DType::f16);
  EXPECT_EQ(type_for_rows(DType::q4_0, 31), DType::f16);
  EXPECT_EQ(type_for_rows(DType::nf4, 1408), DType::nf4);
  EXPECT_EQ(type_for_rows(DType::nf4, 96), DType::f16);
  EXPECT_EQ(type_for_rows(DType::f32, 31), DType::f32);
}

}  // namespace
}  // namespace moe
