#include "tensor/view.h"

#include <numeric>
#include <vector>

#include <gtest/gtest.h>

namespace moe {
namespace {

TEST(DType, SizesAreThoseOfTheirElements) {
  EXPECT_EQ(size_of(DType::f64), sizeof(double));
  EXPECT_EQ(size_of(DType::f32), sizeof(float));
  EXPECT_EQ(size_of(DType::bf16), sizeof(bf16));
  EXPECT_EQ(size_of(DType::i32), sizeof(int32_t));
  EXPECT_EQ(size_of(DType::u8), sizeof(uint8_t));
  EXPECT_EQ(stat_dtype(DType::bf16), DType::f32);
  EXPECT_EQ(stat_dtype(DType::f32), DType::f32);
  EXPECT_EQ(stat_dtype(DType::f64), DType::f64);
  EXPECT_FALSE(is_float(DType::i32));
  EXPECT_FALSE(is_float(DType::u8));
}

TEST(Shape, CountsItsElements) {
  EXPECT_EQ(Shape().elements(), 1);
  EXPECT_EQ(Shape({7}).elements(), 7);
  EXPECT_EQ(Shape({2, 3, 4, 5}).elements(), 120);
  EXPECT_EQ(Shape({2, 0, 4}).elements(), 0);
  EXPECT_EQ(Shape({int64_t{1} << 31, int64_t{1} << 31}).elements(), int64_t{1} << 62);
  EXPECT_EQ(Shape({2, 3}).text(), "[2, 3]");
  EXPECT_EQ(Shape().text(), "[]");
}

TEST(Shape, InnerAndWithFirstChangeOneAxis) {
  EXPECT_EQ(Shape({2, 3, 4}).inner(), Shape({3, 4}));
  EXPECT_EQ(Shape({2}).inner(), Shape());
  EXPECT_EQ(Shape({2, 3, 4}).with_first(9), Shape({9, 3, 4}));
  EXPECT_FALSE(Shape({2, 3}) == Shape({2, 3, 1}));
  EXPECT_THROW(Shape().inner(), std::logic_error);
  EXPECT_THROW(Shape({-1}), std::logic_error);
  EXPECT_THROW(Shape({1, 1, 1, 1, 1}), std::logic_error);
}

/// The elements 0, 1, 2, ... as [4, 6].
class Matrix : public testing::Test {
 protected:
  Matrix() { std::iota(values_.begin(), values_.end(), 0.0f); }
  std::vector<float> values_ = std::vector<float>(24);
  const View matrix_ = View(values_.data(), DType::f32, {4, 6});
};

TEST_F(Matrix, IsContiguousWithTheLastAxisInside) {
  EXPECT_EQ(matrix_.stride[0], 6);
  EXPECT_EQ(matrix_.stride[1], 1);
  EXPECT_TRUE(matrix_.contiguous());
  EXPECT_EQ(matrix_.bytes(), 96u);
  EXPECT_EQ(matrix_.end(), values_.data() + 24);
  EXPECT_TRUE(static_cast<bool>(matrix_));
  EXPECT_FALSE(static_cast<bool>(View()));
}

TEST_F(Matrix, RowsKeepTheirWidth) {
  const View rows = matrix_.rows(1, 2);
  EXPECT_EQ(rows.shape, Shape({2, 6}));
  EXPECT_EQ(rows.as<float>()[0], 6.0f);
  EXPECT_TRUE(rows.contiguous());
  EXPECT_EQ(rows.end(), values_.data() + 18);
  EXPECT_EQ(matrix_.rows(4, 0).elements(), 0);
  EXPECT_THROW(matrix_.rows(3, 2), std::logic_error);
  EXPECT_THROW(matrix_.rows(-1, 2), std::logic_error);
}

TEST_F(Matrix, ColumnsKeepTheirStride) {
  const View columns = matrix_.columns(2, 3);
  EXPECT_EQ(columns.shape, Shape({4, 3}));
  EXPECT_EQ(columns.as<float>()[0], 2.0f);
  EXPECT_EQ(columns.as<float>()[columns.stride[0]], 8.0f);
  EXPECT_FALSE(columns.contiguous());
  EXPECT_EQ(columns.bytes(), 48u);  // without the gaps
  EXPECT_EQ(columns.end(), values_.data() + 23);
  EXPECT_EQ(columns.rows(3, 1).as<float>()[0], 20.0f);
  EXPECT_TRUE(columns.rows(3, 1).contiguous());  // one row has no gap
  EXPECT_THROW(columns.reshaped({12}), std::logic_error);
  EXPECT_THROW(matrix_.columns(4, 3), std::logic_error);
}

TEST_F(Matrix, AtTakesAnAxisAway) {
  const View row = matrix_.at(2);
  EXPECT_EQ(row.shape, Shape({6}));
  EXPECT_EQ(row.as<float>()[0], 12.0f);
  EXPECT_EQ(row.stride[0], 1);
  const View element = row.at(5);
  EXPECT_EQ(element.shape, Shape());
  EXPECT_EQ(*element.as<float>(), 17.0f);
  EXPECT_EQ(matrix_.columns(1, 2).at(3).as<float>()[0], 19.0f);
  EXPECT_THROW(matrix_.at(4), std::logic_error);
}

TEST_F(Matrix, ReshapedHasTheSameElements) {
  const View cube = matrix_.reshaped({2, 3, 4});
  EXPECT_EQ(cube.at(1).at(2).as<float>()[3], 23.0f);
  EXPECT_EQ(cube.stride[0], 12);
  EXPECT_THROW(matrix_.reshaped({5, 5}), std::logic_error);
}

TEST_F(Matrix, ElementsOfAnotherTypeAreRefused) {
  EXPECT_THROW(matrix_.as<int32_t>(), std::logic_error);
  EXPECT_EQ(matrix_.as<const float>(), values_.data());
  EXPECT_EQ(View().as<int32_t>(), nullptr);
}

TEST(View, OfNothingStaysNothing) {
  const View absent(nullptr, DType::bf16, {4, 4});
  EXPECT_EQ(absent.rows(2, 2).data, nullptr);
  EXPECT_EQ(absent.columns(2, 2).data, nullptr);
  EXPECT_EQ(absent.at(3).data, nullptr);
}

}  // namespace
}  // namespace moe
