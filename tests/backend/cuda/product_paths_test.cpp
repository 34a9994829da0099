// The kernels of grouped products against each other, at sizes of several tiles: experts of no, one, few and many rows,
// rows gathered or not.

#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/backend/cuda/gpu_models.h"

namespace moe {
namespace {

constexpr int64_t kTokens = 1500, kRows = 2200, kHidden = 264, kWidth = 520;
const std::vector<int32_t> kOffsets = {0, 0, 1, 130, 130, 1154, 1200, 2111};  // rows from 2111 on belong to nobody

class ProductPaths : public testing::Test {
 protected:
  void SetUp() override {
    MOE_SKIP_WITHOUT("cuda");
    gpu_.emplace("cuda");
  }
  ~ProductPaths() override {
    force_cuda_path(CudaPath::automatic);
    for (void* data : allocations_) gpu_->device->release(data);
  }

  View empty(DType dtype, Shape shape) {
    allocations_.push_back(gpu_->device->allocate(static_cast<size_t>(shape.elements()) * size_of(dtype), "a test"));
    return View(allocations_.back(), dtype, shape);
  }
  View floats(DType dtype, Shape shape) {
    std::vector<float> values(static_cast<size_t>(shape.elements()));
    const Random random(3, ++streams_);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random.normal(i));
    const View view = empty(DType::f32, shape);
    gpu_->device->upload(view.data, values.data(), view.bytes());
    if (dtype == DType::f32) return view;
    const View result = empty(dtype, shape);
    gpu_->backend->run(Cast{.x = view, .y = result});
    return result;
  }
  View integers(const std::vector<int32_t>& values) {
    const View view = empty(DType::i32, {static_cast<int64_t>(values.size())});
    gpu_->device->upload(view.data, values.data(), view.bytes());
    return view;
  }
  View random_rows() {
    std::vector<int32_t> rows(kRows);
    const Random random(4, ++streams_);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(random.below(i, kTokens));
    return integers(rows);
  }

  /// c by the path, from the same start.
  template <class Op>
  std::vector<float> result(Op op, CudaPath path) {
    gpu_->backend->run(Fill{.x = op.c, .value = 0.5});
    force_cuda_path(path);
    gpu_->backend->run(op);
    const View as_f32 = empty(DType::f32, op.c.shape);
    gpu_->backend->run(Cast{.x = op.c, .y = as_f32});
    return download_floats(*gpu_->device, as_f32);
  }

  template <class Op>
  void expect_agreement(const Op& op, double tolerance) {
    const std::vector<float> expected = result(op, CudaPath::simt);
    for (const CudaPath path : {CudaPath::tensor, CudaPath::hopper, CudaPath::automatic}) {
      const std::vector<float> found = result(op, path);
      double error = 0, norm = 0, worst = 0;
      for (size_t i = 0; i < found.size(); ++i) {
        const double difference = static_cast<double>(found[i]) - static_cast<double>(expected[i]);
        error += difference * difference;
        norm += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
        worst = std::max(worst, std::isnan(difference) ? HUGE_VAL : std::fabs(difference));
      }
      EXPECT_LT(std::sqrt(error / norm), tolerance) << name(path) << ", worst difference " << worst;
      EXPECT_LT(worst, 300 * tolerance) << name(path);
    }
  }

  std::optional<Machine> gpu_;
  std::vector<void*> allocations_;
  uint64_t streams_ = 0;
};

constexpr int64_t kExperts = 7;

TEST_F(ProductPaths, OfAnExpertsRows) {
  const View offsets = integers(kOffsets), picked = random_rows();
  for (const DType out : {DType::f32, DType::bf16}) {
    for (const bool gathered : {false, true}) {
      for (const bool transpose_b : {false, true}) {
        SCOPED_TRACE(fmt::format("{} gathered={} transpose_b={}", name(out), gathered, transpose_b));
        const Shape b = transpose_b ? Shape{kExperts, kWidth, kHidden} : Shape{kExperts, kHidden, kWidth};
        expect_agreement(GroupedGemm{.a = floats(DType::bf16, {gathered ? kTokens : kRows, kHidden}),
                                     .a_rows = gathered ? picked : View{},
                                     .offsets = offsets,
                                     .b = floats(DType::bf16, b),
                                     .c = empty(out, {kRows, kWidth}),
                                     .transpose_b = transpose_b},
                         out == DType::f32 ? 1e-6 : 2e-3);
      }
    }
  }
}

TEST_F(ProductPaths, ReducedOverAnExpertsRows) {
  const View offsets = integers(kOffsets), picked = random_rows();
  for (const bool accumulate : {false, true}) {
    for (const int gathered : {0, 1, 2}) {
      SCOPED_TRACE(fmt::format("gathered={} accumulate={}", gathered, accumulate));
      expect_agreement(GroupedGemmReduce{.a = floats(DType::bf16, {gathered == 1 ? kTokens : kRows, kHidden}),
                                         .a_rows = gathered == 1 ? picked : View{},
                                         .b = floats(DType::bf16, {gathered == 2 ? kTokens : kRows, kWidth}),
                                         .b_rows = gathered == 2 ? picked : View{},
                                         .offsets = offsets,
                                         .c = empty(DType::f32, {kExperts, kHidden, kWidth}),
                                         .accumulate = accumulate},
                       1e-6);
    }
  }
}

TEST_F(ProductPaths, AnF32OperandBesideBf16KeepsItsDigits) {
  // Automatic: three bf16 parts on the tensor cores; simt: f32 arithmetic.
  for (const bool transpose_a : {false, true}) {
    for (const DType out : {DType::f32, DType::bf16}) {
      const Shape a = transpose_a ? Shape{kTokens, 64} : Shape{kTokens, 64};
      const Gemm op{.a = floats(DType::f32, a),
                    .b = floats(DType::bf16, {transpose_a ? kTokens : 64, kHidden}),
                    .c = empty(out, {transpose_a ? 64 : kTokens, kHidden}),
                    .transpose_a = transpose_a,
                    .accumulate = true};
      // Twice and more what bf16 operands get: three sums, and the tensor cores cut digits off when they add.
      expect_agreement(op, out == DType::f32 ? 3e-6 : 2e-3);
    }
  }
}

}  // namespace
}  // namespace moe
