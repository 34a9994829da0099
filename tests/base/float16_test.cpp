#include "base/float16.h"

#include <bit>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace moe {
namespace {

/// By arithmetic on the three parts of the number.
double by_parts(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST(Float16, EveryValueIsExactAndSurvivesTheWayThroughFloat) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const f16 value{static_cast<uint16_t>(bits)};
    const float found = to_float(value);
    if ((bits & 0x7fff) > 0x7c00) {
      ASSERT_TRUE(std::isnan(found)) << bits;
      ASSERT_TRUE(std::isnan(to_float(to_f16(found)))) << bits;
      continue;
    }
    if ((bits & 0x7fff) == 0x7c00) {
      ASSERT_TRUE(std::isinf(found)) << bits;
    } else {
      ASSERT_EQ(static_cast<double>(found), by_parts(value.bits)) << bits;
    }
    ASSERT_EQ(std::signbit(found), (bits & 0x8000) != 0) << bits;
    ASSERT_EQ(to_f16(found).bits, bits);
  }
}

TEST(Float16, RoundsToTheNearestOfItsTwoNeighboursAndTiesToEven) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const double below = by_parts(static_cast<uint16_t>(bits)), above = by_parts(static_cast<uint16_t>(bits + 1));
    const auto middle = static_cast<float>((below + above) / 2);
    ASSERT_EQ(to_f16(middle).bits, bits % 2 == 0 ? bits : bits + 1) << bits;
    ASSERT_EQ(to_f16(std::nextafterf(middle, 0.0f)).bits, bits) << bits;
    ASSERT_EQ(to_f16(std::nextafterf(middle, 1e9f)).bits, bits + 1) << bits;
    ASSERT_EQ(to_f16(-middle).bits, to_f16(middle).bits | 0x8000) << bits;
  }
}

TEST(Float16, WhatIsTooLargeBecomesInfinity) {
  EXPECT_EQ(to_f16(65519.996f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(to_f16(std::numeric_limits<float>::max()).bits, 0x7c00);
  EXPECT_EQ(to_f16(-std::numeric_limits<float>::infinity()).bits, 0xfc00);
  EXPECT_EQ(to_f16(std::numeric_limits<float>::denorm_min()).bits, 0);
}

}  // namespace
}  // namespace moe
