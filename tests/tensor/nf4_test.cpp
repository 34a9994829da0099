// 4-bit NormalFloat against the blocks of an independent program (tools/make_nf4_golden.py), which are those of
// bitsandbytes.

#include <bit>
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tensor/blocks/layout.h"
#include "tensor/dtype.h"

namespace moe {
namespace {

/// The matrix that the program describes.
std::vector<float> matrix(int64_t elements) {
  std::vector<float> values(static_cast<size_t>(elements));
  for (int64_t i = 0; i < elements; ++i) {
    const auto number = static_cast<float>((i * 7919 + i * i % 1009) % 4001 - 2000) / 2048.0f;
    values[static_cast<size_t>(i)] = number * (static_cast<float>(i / 64 * 37 % 101 + 1) / 64.0f);
  }
  return values;
}

std::vector<blocks::Nf4> quantised(const std::vector<float>& values) {
  std::vector<blocks::Nf4> found(values.size() / 64);
  floats_to_nf4(values.data(), found.data(), static_cast<int64_t>(values.size()));
  return found;
}

TEST(Nf4, BlocksAreThoseOfTheIndependentProgramBitForBit) {
  std::ifstream file(std::string(MOE_SOURCE_DIR) + "/tests/golden/nf4/blocks.txt");
  std::vector<std::string> scales, codes;
  for (std::string scale, code; file >> scale >> code;) {
    scales.push_back(scale);
    codes.push_back(code);
  }
  ASSERT_GT(scales.size(), 256U) << "more than a group of scales";
  const std::vector<blocks::Nf4> found = quantised(matrix(64 * static_cast<int64_t>(scales.size())));
  for (size_t block = 0; block < found.size(); ++block) {
    ASSERT_EQ(std::bit_cast<uint32_t>(found[block].scale), std::stoul(scales[block], nullptr, 16)) << block;
    ASSERT_EQ(codes[block].size(), 64U);
    for (size_t i = 0; i < 32; ++i) {
      ASSERT_EQ(found[block].q[i], std::stoul(codes[block].substr(2 * i, 2), nullptr, 16)) << block << " " << i;
    }
  }
}

TEST(Nf4, ElementsAreTheScaleTimesTheNumberOfTheirCode) {
  blocks::Nf4 block{.scale = 0.37f, .q = {}};
  for (size_t i = 0; i < 32; ++i) block.q[i] = static_cast<uint8_t>((i % 16) << 4 | (15 - i % 16));
  std::vector<float> values(64);
  nf4_to_floats(&block, values.data(), 64);
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(values[2 * i], nf4_numbers()[i % 16] * 0.37f);
    EXPECT_EQ(values[2 * i + 1], nf4_numbers()[15 - i % 16] * 0.37f);
  }
  EXPECT_EQ(nf4_numbers()[0], -1.0f);
  EXPECT_EQ(nf4_numbers()[7], 0.0f);
  EXPECT_EQ(nf4_numbers()[15], 1.0f);
}

/// Half of the widest gap between numbers, of the largest in the block, and what rounding the scale adds: half of the
/// widest gap of the 8-bit type, of the largest distance of a scale from the mean.
TEST(Nf4, NumbersAreNearWhatTheyStandFor) {
  const std::vector<float> values = matrix(int64_t{64} * 300);
  const std::vector<blocks::Nf4> found = quantised(values);
  std::vector<float> back(values.size());
  nf4_to_floats(found.data(), back.data(), static_cast<int64_t>(back.size()));
  double mean = 0, furthest = 0;
  std::vector<double> largest(found.size());
  for (size_t i = 0; i < values.size(); ++i) {
    largest[i / 64] = std::max(largest[i / 64], std::abs(static_cast<double>(values[i])));
  }
  for (const double one : largest) mean += one / static_cast<double>(largest.size());
  for (const double one : largest) furthest = std::max(furthest, std::abs(one - mean));
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_NEAR(back[i], values[i], 0.1519 * largest[i / 64] + 0.0071 * furthest) << i;
  }
}

TEST(Nf4, AMatrixOfZerosStaysOne) {
  const std::vector<float> values(size_t{64} * 3, 0.0f);
  std::vector<float> back(values.size(), 1.0f);
  nf4_to_floats(quantised(values).data(), back.data(), static_cast<int64_t>(back.size()));
  for (const float value : back) EXPECT_EQ(value, 0.0f);
}

}  // namespace
}  // namespace moe
