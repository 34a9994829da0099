#include "tensor/arena.h"

#include <cstdint>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace moe {
namespace {

struct alignas(64) Block {
  char bytes[1024];
};

int64_t distance(const View& a, const View& b) {
  return static_cast<const char*>(b.data) - static_cast<const char*>(a.data);
}

TEST(Arena, BuffersAreAlignedAndApart) {
  Block block;
  Arena arena("test", block.bytes, sizeof block);
  const View a = arena.push("a", DType::u8, {1});
  const View b = arena.push("b", DType::f32, {17});
  const View c = arena.push("c", DType::bf16, {3, 5});
  EXPECT_EQ(a.data, block.bytes);
  for (const View& view : {a, b, c}) EXPECT_EQ(distance(a, view) % static_cast<int64_t>(Arena::kAlignment), 0);
  EXPECT_GE(distance(a, b), 1);
  EXPECT_GE(distance(b, c), 17 * 4);
  EXPECT_EQ(c.shape, Shape({3, 5}));
  EXPECT_EQ(c.dtype, DType::bf16);
}

TEST(Arena, EmptyBuffersHaveAddressesOfTheirOwn) {
  Block block;
  Arena arena("test", block.bytes, sizeof block);
  const View a = arena.push("a", DType::f32, {0});
  const View b = arena.push("b", DType::f32, {0, 4});
  EXPECT_NE(a.data, b.data);
}

TEST(Arena, AFrameGivesBackWhatItTook) {
  Block block;
  Arena arena("test", block.bytes, sizeof block);
  arena.push("kept", DType::f32, {4});
  const size_t before = arena.mark();
  View first;
  {
    const Arena::Frame frame(arena);
    first = arena.push("inside", DType::f32, {4});
    EXPECT_GT(arena.mark(), before);
  }
  EXPECT_EQ(arena.mark(), before);
  EXPECT_EQ(arena.push("again", DType::f32, {4}).data, first.data);
}

TEST(Arena, ThePeakAndItsBuffersAreRemembered) {
  Arena arena("test", nullptr, size_t{1} << 30);
  arena.push("weights", DType::f32, {100});
  {
    const Arena::Frame frame(arena);
    arena.push("large", DType::f32, {1000});
  }
  arena.push("small", DType::f32, {10});
  std::vector<std::string> names;
  size_t bytes = 0;
  for (const Arena::Buffer& buffer : arena.at_peak()) {
    names.push_back(buffer.name);
    bytes += buffer.bytes;
  }
  EXPECT_THAT(names, testing::ElementsAre("weights", "large"));
  EXPECT_EQ(bytes, arena.peak_bytes());
  EXPECT_GE(arena.peak_bytes(), 4400u);
  EXPECT_LT(arena.peak_bytes(), 4400u + 2 * Arena::kAlignment + 1);
  EXPECT_LT(arena.mark(), arena.peak_bytes());
}

// Against a copy of the whole stack at each new peak.
TEST(Arena, TheBuffersAtThePeakAreThoseOfACopyForAnyOrderOfPushesAndReleases) {
  const Random random(7, 0);
  uint64_t draw = 0;
  for (int run = 0; run < 20; ++run) {
    Arena arena("test", nullptr, size_t{1} << 40);
    std::vector<std::string> stack, copied;
    std::vector<size_t> marks;
    size_t peak = 0;
    for (int i = 0; i < 200; ++i) {
      if (!marks.empty() && random.bits(draw++) % 3 == 0) {
        const size_t kept = random.bits(draw++) % marks.size();
        arena.release(marks[kept]);
        marks.resize(kept);
        stack.resize(kept);
      }
      marks.push_back(arena.mark());
      stack.push_back(fmt::format("{}", i));
      arena.push(stack.back(), DType::f32, {static_cast<int64_t>(random.bits(draw++) % 4000)});
      if (arena.mark() > peak) peak = arena.mark(), copied = stack;
    }
    std::vector<std::string> names;
    for (const Arena::Buffer& buffer : arena.at_peak()) names.push_back(buffer.name);
    EXPECT_EQ(names, copied) << run;
  }
}

// A plan is the peak over no memory; the same pushes then fit exactly, and not one byte less.
TEST(Arena, WhatWasMeasuredOverNothingFitsExactly) {
  const auto push_all = [](Arena& arena) {
    arena.push("a", DType::bf16, {33});
    const Arena::Frame frame(arena);
    arena.push("b", DType::f32, {8, 8});
  };
  Arena measured("measure", nullptr, size_t{1} << 40);
  push_all(measured);
  std::vector<char> memory(measured.peak_bytes());
  Arena exact("exact", memory.data(), memory.size());
  push_all(exact);
  EXPECT_EQ(exact.peak_bytes(), memory.size());
  Arena tight("tight", memory.data(), memory.size() - 1);
  try {
    push_all(tight);
    FAIL() << "one byte is missing";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("tight memory is planned for"));
    EXPECT_THAT(error.what(), testing::HasSubstr("b f32 [8, 8]"));
  }
}

TEST(Arena, AMarkAheadOfWhatIsInUseIsAMistake) {
  Arena arena("test", nullptr, 1024);
  EXPECT_THROW(arena.release(64), std::logic_error);
}

}  // namespace
}  // namespace moe
