// Weights that stay in blocks on the GPU: their numbers bit for bit, fusions against their operations in turn, and more
// rows than the workspace holds at once.

#include <cmath>

#include "base/bfloat16.h"
#include "ops/adapted_product.h"
#include "tests/backend/cuda/gpu_test.h"

namespace moe {
namespace {

std::vector<DType> block_types() {
  std::vector<DType> types;
  for (const StorageType& type : kStorageTypes) {
    if (!is_plain(type.dtype)) types.push_back(type.dtype);
  }
  return types;
}

class CudaBlocks : public GpuTest, public testing::WithParamInterface<DType> {
 protected:
  /// Random numbers in blocks on the GPU, the same 2^18 again and again; `numbers`: what the CPU reads from them.
  View blocks(Shape shape, std::vector<float>& numbers) {
    const StorageType& type = storage(GetParam());
    const int64_t elements = shape.elements(), period = std::min<int64_t>(elements, int64_t{1} << 18);
    numbers.resize(static_cast<size_t>(elements));
    const Random random(8, ++streams_);
    for (int64_t i = 0; i < period; ++i) {
      numbers[static_cast<size_t>(i)] = static_cast<float>(random.normal(static_cast<uint64_t>(i)));
    }
    std::vector<char> bytes(static_cast<size_t>(bytes_of(type.dtype, elements)));
    type.from_floats(numbers.data(), bytes.data(), period);
    const auto once = static_cast<size_t>(bytes_of(type.dtype, period));
    for (size_t at = once; at < bytes.size(); ++at) bytes[at] = bytes[at - once];
    type.to_floats(bytes.data(), numbers.data(), elements);
    allocations_.push_back(gpu_->device->allocate(bytes.size(), "a test"));
    gpu_->device->upload(allocations_.back(), bytes.data(), bytes.size());
    return View(allocations_.back(), type.dtype, shape);
  }
  View upload(DType dtype, Shape shape, const std::vector<float>& numbers) {
    const View view = empty(DType::f32, shape);
    gpu_->device->upload(view.data, numbers.data(), view.bytes());
    if (dtype == DType::f32) return view;
    const View result = empty(dtype, shape);
    gpu_->backend->run(Cast{.x = view, .y = result});
    return result;
  }
  View filled(DType dtype, Shape shape) {
    const View view = empty(dtype, shape);
    gpu_->backend->run(Fill{.x = view, .value = 0.25});
    return view;
  }
  int64_t block() const { return storage(GetParam()).block; }
  /// Root mean squares of differences and of the expected numbers.
  static void expect_near(const std::vector<float>& found, const std::vector<float>& expected, double tolerance) {
    ASSERT_EQ(found.size(), expected.size());
    double off = 0, all = 0;
    for (size_t i = 0; i < found.size(); ++i) {
      off += std::pow(static_cast<double>(found[i]) - static_cast<double>(expected[i]), 2);
      all += std::pow(static_cast<double>(expected[i]), 2);
    }
    EXPECT_LT(std::sqrt(off / all), tolerance);
  }
};

/// A product with a row of x that is 1 at one place gives a column of W.
TEST_P(CudaBlocks, AreTheNumbersOfTheCpu) {
  for (const int64_t width : {block(), 3 * block(), 44 * int64_t{32} / block() * block(), 2048 + block()}) {
    constexpr int64_t kOutputs = 37;
    std::vector<float> numbers;
    const View w = blocks({kOutputs, width}, numbers);
    for (const int64_t rows : {8, 40}) {  // as blocks (but nf4), and widened to bf16
      const bool exact = rows == 8 && GetParam() != DType::nf4;
      SCOPED_TRACE(fmt::format("{} numbers a row, {} rows", width, rows));
      for (int64_t begin = 0; begin < width; begin += rows) {
        std::vector<float> x(static_cast<size_t>(rows * width));
        for (int64_t r = 0; r < rows && begin + r < width; ++r) x[static_cast<size_t>(r * width + begin + r)] = 1;
        const View c = filled(DType::f32, {rows, kOutputs});
        gpu_->backend->run(Gemm{.a = upload(DType::bf16, {rows, width}, x), .b = w, .c = c, .transpose_b = true});
        const std::vector<float> found = values(c);
        for (int64_t r = 0; r < rows && begin + r < width; ++r) {
          for (int64_t o = 0; o < kOutputs; ++o) {
            const float number = numbers[static_cast<size_t>(o * width + begin + r)];
            const float expected = exact ? number : to_float(to_bf16(number));
            ASSERT_EQ(found[static_cast<size_t>(r * kOutputs + o)], expected) << o << ", " << begin + r;
          }
        }
      }
    }
  }
}

TEST_P(CudaBlocks, AnActivatedProductHasTheBitsOfBothInTurn) {
  for (const int64_t rows : {1, 7, 9, 16, 17, 40}) {
    for (const Shape& shape : {Shape{2 * 96, 5 * block()}, Shape{2 * 13, block()}, Shape{2 * 1408, 2048}}) {
      std::vector<float> numbers;
      const View w = blocks(shape, numbers), x = floats(DType::bf16, {rows, shape[1]});
      std::vector<float> results[2][2];
      for (const int fused : {0, 1}) {
        const View c = filled(DType::bf16, {rows, shape[0]}), y = filled(DType::bf16, {rows, shape[0] / 2});
        const Gemm product{.a = x, .b = w, .c = c, .transpose_b = true};
        const SwiGlu activation{.gate_up = c, .y = y};
        if (fused == 1) {
          gpu_->backend->run(ActivatedProduct{product, activation});
        } else {
          gpu_->backend->run(product);
          gpu_->backend->run(activation);
        }
        results[fused][0] = values(c), results[fused][1] = values(y);
      }
      EXPECT_EQ(results[0][0], results[1][0]) << rows;
      EXPECT_EQ(results[0][1], results[1][1]) << rows;
    }
  }
}

TEST_P(CudaBlocks, ExpertsHaveTheBitsOfTheirOperationsInTurnAndAreNearF32) {
  for (const std::vector<int32_t>& loads :
       {std::vector<int32_t>{1, 0, 0, 1, 1}, {0, 1, 2, 7, 64, 129}, {17, 1, 0, 33, 16, 8, 5}, {0, 0, 1, 0}}) {
    const auto experts = static_cast<int64_t>(loads.size());
    std::vector<int32_t> begins{0}, tokens, slots;
    for (const int32_t count : loads) begins.push_back(begins.back() + count);
    const int64_t rows = begins.back() + 3, width = block(), hidden = 3 * block();
    for (int64_t r = 0; r < rows; ++r) {
      tokens.push_back(static_cast<int32_t>(r * 7 % 11));
      slots.push_back(static_cast<int32_t>(rows - 1 - r));
    }
    std::vector<float> numbers[2];
    const View gate_up = blocks({experts, 2 * width, hidden}, numbers[0]);
    const View down = blocks({experts, hidden, width}, numbers[1]);
    const View wide[] = {upload(DType::f32, gate_up.shape, numbers[0]), upload(DType::f32, down.shape, numbers[1])};
    const View offsets = integers(begins), x = floats(DType::bf16, {11, hidden}), picked = integers(tokens);
    const View scale = floats(DType::f32, {rows}), index = integers(slots);
    std::vector<float> results[3][3];
    for (const int way : {0, 1, 2}) {  // in turn, fused, and with the same numbers as f32
      const View c = filled(DType::bf16, {rows, 2 * width}), y = filled(DType::bf16, {rows, width}),
                 out = filled(DType::bf16, {rows, hidden});
      const ExpertRows<SwiGlu> op{
          .first = {.a = x,
                    .a_rows = picked,
                    .offsets = offsets,
                    .b = way == 2 ? wide[0] : gate_up,
                    .c = c,
                    .transpose_b = true},
          .activation =
              {.gate_up = c, .scale = scale, .scale_index = index, .row_count = offsets.rows(experts, 1), .y = y},
          .last = {.a = y, .offsets = offsets, .b = way == 2 ? wide[1] : down, .c = out, .transpose_b = true}};
      if (way == 1) {
        gpu_->backend->run(op);
      } else {
        gpu_->backend->run(op.first);
        gpu_->backend->run(op.activation);
        gpu_->backend->run(op.last);
      }
      results[way][0] = values(c), results[way][1] = values(y), results[way][2] = values(out);
    }
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(results[0][i], results[1][i]) << "result " << i;
      // Roundings of weights (where they are widened), of c and of y to bf16: 2^-9 or less on average, and they
      // multiply.
      expect_near(results[1][i], results[2][i], 4 * 0x1p-9);
    }
  }
}

/// The widened matrix has more rows than the workspace; the last part is smaller.
TEST_P(CudaBlocks, AMatrixLargerThanTheWorkspaceIsWidenedInParts) {
  std::vector<float> numbers;
  const Shape shape{36100, 1024};
  const View w = blocks(shape, numbers), x = floats(DType::bf16, {24, shape[1]});
  const View c = filled(DType::f32, {24, shape[0]}), expected = filled(DType::f32, {24, shape[0]});
  gpu_->backend->run(Gemm{.a = x, .b = w, .c = c, .transpose_b = true});
  gpu_->backend->run(Gemm{.a = x, .b = upload(DType::bf16, shape, numbers), .c = expected, .transpose_b = true});
  expect_near(values(c), values(expected), 1e-6);
}

/// The same of a product along the matrix's rows, as of a backward pass: some of its columns at a time.
TEST_P(CudaBlocks, AMatrixLargerThanTheWorkspaceIsMultipliedAlongItsRowsInParts) {
  std::vector<float> numbers;
  const Shape shape{21888, 2048};
  const View w = blocks(shape, numbers), x = floats(DType::bf16, {300, shape[0]});
  const View c = filled(DType::f32, {300, shape[1]}), expected = filled(DType::f32, {300, shape[1]});
  gpu_->backend->run(Gemm{.a = x, .b = w, .c = c});
  gpu_->backend->run(Gemm{.a = x, .b = upload(DType::bf16, shape, numbers), .c = expected});
  expect_near(values(c), values(expected), 1e-6);
}

TEST_P(CudaBlocks, ExpertsLargerThanTheWorkspaceAreWidenedSomeAtATime) {
  std::vector<float> numbers;
  const Shape shape{4, 6144, 2048};  // 24 MiB each
  const View w = blocks(shape, numbers), offsets = integers({0, 90, 90, 201, 310});
  const View x = floats(DType::bf16, {311, shape[2]});
  const View c = filled(DType::bf16, {311, shape[1]}), expected = filled(DType::bf16, {311, shape[1]});
  gpu_->backend->run(GroupedGemm{.a = x, .offsets = offsets, .b = w, .c = c, .transpose_b = true});
  gpu_->backend->run(GroupedGemm{
      .a = x, .offsets = offsets, .b = upload(DType::bf16, shape, numbers), .c = expected, .transpose_b = true});
  expect_near(values(c), values(expected), 0x1p-9);
}

/// Forward, and along the rows as in a backward pass; some experts at a time.
TEST_P(CudaBlocks, WhatAdaptersAddToExpertsComesWithTheirProducts) {
  std::vector<float> numbers;
  const Shape shape{4, 6144, 2048};
  const View w = blocks(shape, numbers), wide = upload(DType::bf16, shape, numbers);
  const View offsets = integers({0, 90, 90, 201, 310});
  for (const bool forward : {true, false}) {
    SCOPED_TRACE(forward);
    const int64_t inputs = shape[forward ? 2 : 1], outputs = shape[forward ? 1 : 2];
    const View y = filled(DType::bf16, {311, outputs / 2}), again = filled(DType::bf16, {311, outputs / 2});
    AdaptedProduct op{.product = {.a = floats(DType::bf16, {311, inputs}),
                                  .offsets = offsets,
                                  .b = w,
                                  .c = filled(DType::bf16, {311, outputs}),
                                  .transpose_b = forward},
                      .low = floats(DType::bf16, {311, 16}),
                      .b = floats(DType::bf16, forward ? Shape{4, outputs, 8} : Shape{4, 16, outputs}),
                      .slices = {outputs / 2, outputs / 2, 0}};
    AdaptedProduct exact = op;
    exact.product.b = wide;
    exact.product.c = filled(DType::f32, {311, outputs});
    if (forward) op.activation = {.gate_up = op.product.c, .row_count = offsets.rows(4, 1), .y = y};
    run(*gpu_->backend, op);
    gpu_->backend->run(exact.product);
    for (const GroupedGemm& change : exact.changes()) gpu_->backend->run(change);
    expect_near(values(op.product.c), values(exact.product.c), 0x1p-9);
    if (!forward) continue;
    op.activation.y = again;
    gpu_->backend->run(op.activation);
    EXPECT_EQ(values(y), values(again));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaBlocks, testing::ValuesIn(block_types()),
                         [](const auto& test) { return std::string(name(test.param)); });

}  // namespace
}  // namespace moe
