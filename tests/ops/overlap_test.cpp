#include <vector>

#include <gtest/gtest.h>

#include "ops/fields.h"

namespace moe {
namespace {

/// Whether two views share an element, by listing every address.
bool overlap_by_listing(const View& a, const View& b) {
  const auto visit = [](const View& view, auto use) {
    const auto item = static_cast<int64_t>(size_of(view.dtype));
    for (int64_t row = 0; row < view.size(0); ++row) {
      use(static_cast<char*>(view.data) + row * view.stride[0] * item, view.size(1) * item);
    }
  };
  bool found = false;
  visit(a, [&](char* p, int64_t p_bytes) {
    visit(b, [&](char* q, int64_t q_bytes) { found |= p < q + q_bytes && q < p + p_bytes && p_bytes * q_bytes > 0; });
  });
  return found;
}

TEST(Overlap, IsExactForBlocksOfOneMatrix) {
  std::vector<float> data(5 * 7);
  const View matrix(data.data(), DType::f32, {5, 7});
  std::vector<View> blocks;
  for (int64_t row = 0; row < 5; ++row) {
    for (int64_t rows = 0; row + rows <= 5; rows += 2) {
      for (int64_t column = 0; column < 7; ++column) {
        for (int64_t columns = 0; column + columns <= 7; columns += 3) {
          blocks.push_back(matrix.rows(row, rows).columns(column, columns));
        }
      }
    }
  }
  for (const View& a : blocks) {
    for (const View& b : blocks) ASSERT_EQ(overlap(a, b), overlap_by_listing(a, b));
  }
}

TEST(Overlap, SeesOneByteOfADifferentType) {
  std::vector<float> data(8);
  const View floats(data.data(), DType::f32, {2, 4});
  const View halves(reinterpret_cast<char*>(data.data()) + 14, DType::bf16, {3, 1});
  EXPECT_TRUE(overlap(floats.rows(0, 1), halves));
  EXPECT_TRUE(overlap(floats.rows(1, 1), halves));
  EXPECT_FALSE(overlap(floats.columns(1, 2).rows(0, 1), halves));
}

TEST(Overlap, AbsentAndEmptyViewsOverlapNothing) {
  std::vector<float> data(8);
  const View all(data.data(), DType::f32, {8});
  EXPECT_FALSE(overlap(all, View{}));
  EXPECT_FALSE(overlap(all, all.rows(3, 0)));
  EXPECT_TRUE(overlap(all, all));
}

TEST(Overlap, OfBatchesOfOneMatrixIsExact) {
  std::vector<float> data(2 * 3 * 4);
  const View batches(data.data(), DType::f32, {2, 3, 4});
  EXPECT_FALSE(overlap(batches.at(0), batches.at(1)));
  EXPECT_TRUE(overlap(batches, batches.at(1)));
}

}  // namespace
}  // namespace moe
