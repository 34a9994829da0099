#include "base/random.h"

#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace moe {
namespace {

using Words = std::array<uint32_t, 4>;

constexpr uint64_t pair(uint32_t low, uint32_t high) { return (uint64_t{high} << 32) | low; }

// The known answers that come with the definition of Philox4x32-10 (counter words 0 to 3, key words 0 and 1).
TEST(Random, GivesTheKnownAnswersOfPhilox) {
  EXPECT_EQ(Random(0, 0).words(0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Random(~uint64_t{0}, ~uint64_t{0}).words(~uint64_t{0}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Random(pair(0xa4093822, 0x299f31d0), pair(0x13198a2e, 0x03707344)).words(pair(0x243f6a88, 0x85a308d3)),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, SeedsStreamsAndIndicesGiveDifferentWords) {
  std::set<uint64_t> seen;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    for (uint64_t stream = 0; stream < 10; ++stream) {
      for (uint64_t index = 0; index < 100; ++index) seen.insert(Random(seed, stream).bits(index));
    }
  }
  EXPECT_EQ(seen.size(), 10000u);
}

TEST(Random, UniformHasTheMeanVarianceAndRangeOfItsDistribution) {
  const Random random(1, 2);
  const int count = 100000;
  double sum = 0, squares = 0;
  for (int i = 0; i < count; ++i) {
    const double value = random.uniform(static_cast<uint64_t>(i));
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    sum += value;
    squares += (value - 0.5) * (value - 0.5);
  }
  // Five standard deviations of each estimate.
  EXPECT_NEAR(sum / count, 0.5, 5 * std::sqrt(1.0 / 12 / count));
  EXPECT_NEAR(squares / count, 1.0 / 12, 5 * std::sqrt(1.0 / 180 / count));
}

/// Numbers from `first` on, at once and one by one.
void expect_the_same_normals(const Random& random, uint64_t first, size_t count, double scale, Isa isa) {
  std::vector<float> together(count), alone(count);
  random.normals(first, static_cast<int64_t>(count), scale, together.data(), isa);
  for (size_t i = 0; i < count; ++i) alone[i] = static_cast<float>(scale * random.normal(first + i));
  EXPECT_EQ(std::memcmp(together.data(), alone.data(), count * sizeof(float)), 0)
      << "from " << first << ", scale " << scale << ", " << name(isa);
}

TEST(Random, NormalsAtOnceHaveTheBitsOfThoseOneByOne) {
  for (const Isa isa : kAllIsas) {
    if (!supports(isa)) continue;
    for (const double scale : {0.006, 1.0, -3e4, 1e-41}) {
      expect_the_same_normals(Random(5, 6), 7, 300001, scale, isa);
      expect_the_same_normals(Random(~uint64_t{0}, hash_name("x")), ~uint32_t{0} - 100, 777, scale, isa);
      for (const size_t count : {0, 1, 63, 64, 65}) expect_the_same_normals(Random(1, 1), 3, count, scale, isa);
    }
  }
}

// The angle is a quarter or three quarters of a turn, where the library's cosine is not quite 0; or the radius is 0.
TEST(Random, NormalsAtOnceHaveTheBitsOfRareNumbersToo) {
  const Random random(1, 2);
  ASSERT_EQ(random.words(2766960432)[1], 0x40000000u);
  ASSERT_EQ(random.words(2361965334)[1], 0xc0000000u);
  ASSERT_EQ(random.words(1100301533677)[0], 0xffffffffu);
  for (const Isa isa : kAllIsas) {
    if (!supports(isa)) continue;
    for (const uint64_t index : {2766960432, 2361965334, 1100301533677}) {
      expect_the_same_normals(random, index - 10, 20, 1, isa);
    }
  }
}

TEST(Random, NormalHasTheFirstFourMomentsOfItsDistribution) {
  const Random random(3, 4);
  const int count = 200000;
  std::vector<double> moments(5);
  for (int i = 0; i < count; ++i) {
    const double value = random.normal(static_cast<uint64_t>(i));
    ASSERT_TRUE(std::isfinite(value));
    for (size_t power = 1; power <= 4; ++power) moments[power] += std::pow(value, power) / count;
  }
  EXPECT_NEAR(moments[1], 0, 5 * std::sqrt(1.0 / count));
  EXPECT_NEAR(moments[2], 1, 5 * std::sqrt(2.0 / count));
  EXPECT_NEAR(moments[3], 0, 5 * std::sqrt(15.0 / count));
  EXPECT_NEAR(moments[4], 3, 5 * std::sqrt(96.0 / count));
}

TEST(Random, BelowReachesEveryValueAboutEquallyOften) {
  const Random random(5, 6);
  std::vector<int> counts(7);
  for (uint64_t i = 0; i < 70000; ++i) ++counts.at(random.below(i, 7));
  for (const int count : counts) EXPECT_NEAR(count, 10000, 5 * std::sqrt(10000 * 6.0 / 7));
  EXPECT_EQ(random.below(9, 1), 0u);
}

TEST(HashName, GivesTheKnownAnswersOfFnv1a) {
  EXPECT_EQ(hash_name(""), 0xcbf29ce484222325u);
  EXPECT_EQ(hash_name("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(hash_name("foobar"), 0x85944171f73967e8u);
}

}  // namespace
}  // namespace moe
