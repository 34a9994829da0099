#include "base/bfloat16.h"

#include <bit>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace moe {
namespace {

uint16_t rounded(uint32_t float_bits) { return to_bf16(std::bit_cast<float>(float_bits)).bits; }

TEST(Bfloat16, EveryValueSurvivesTheWayThroughFloat) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const bf16 value{static_cast<uint16_t>(bits)};
    if (std::isnan(to_float(value))) continue;
    ASSERT_EQ(to_bf16(to_float(value)).bits, bits);
  }
}

TEST(Bfloat16, RoundsToNearestAndTiesToEven) {
  EXPECT_EQ(rounded(0x3f800000), 0x3f80);  // 1
  EXPECT_EQ(rounded(0x3f807fff), 0x3f80);  // just below the middle
  EXPECT_EQ(rounded(0x3f808000), 0x3f80);  // the middle, to the even neighbour below
  EXPECT_EQ(rounded(0x3f808001), 0x3f81);  // just above the middle
  EXPECT_EQ(rounded(0x3f818000), 0x3f82);  // the middle, to the even neighbour above
  EXPECT_EQ(rounded(0xbf818000), 0xbf82);  // the sign does not matter
  EXPECT_EQ(rounded(0x00008000), 0x0000);  // subnormal numbers alike
  EXPECT_EQ(rounded(0x00018000), 0x0002);
}

TEST(Bfloat16, RoundsToTheNearestOfItsTwoNeighbours) {
  for (uint32_t bits = 0; bits < 0x7f7f0000; bits += 0x3fff1) {
    const double value = std::bit_cast<float>(bits);
    const double below = std::bit_cast<float>(bits & 0xffff0000u);
    const double above = std::bit_cast<float>((bits & 0xffff0000u) + 0x10000u);
    const double found = to_float(to_bf16(static_cast<float>(value)));
    ASSERT_LE(std::abs(found - value), std::min(value - below, above - value)) << bits;
  }
}

TEST(Bfloat16, KeepsInfinitiesAndTurnsOverflowIntoThem) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(to_float(to_bf16(infinity)), infinity);
  EXPECT_EQ(to_float(to_bf16(-infinity)), -infinity);
  EXPECT_EQ(to_float(to_bf16(std::numeric_limits<float>::max())), infinity);
}

TEST(Bfloat16, NotANumberStaysOneEvenWhenOnlyLowBitsMarkIt) {
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::bit_cast<float>(0xffffffffu)))));
}

}  // namespace
}  // namespace moe
