// The kernels of grouped products against each other, at sizes of several tiles: experts of no, one, few and many rows,
// rows gathered or not.

#include <cmath>
#include <numeric>

#include "backend/cuda/cuda_device.h"
#include "ops/adapted_product.h"
#include "tests/backend/cuda/gpu_test.h"

namespace moe {
namespace {

constexpr int64_t kTokens = 1500, kRows = 2200, kHidden = 264, kWidth = 520;
const std::vector<int32_t> kOffsets = {0, 0, 1, 130, 130, 1154, 1200, 2111};  // rows from 2111 on belong to nobody

class ProductPaths : public GpuTest {
 protected:
  View random_rows(int64_t count = kRows) {
    std::vector<int32_t> rows(static_cast<size_t>(count));
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
    return values(op.c);
  }

  template <class Op>
  void expect_agreement(const Op& op, double tolerance,
                        const std::vector<CudaPath>& paths = {CudaPath::tensor, CudaPath::hopper, CudaPath::portable,
                                                              CudaPath::automatic}) {
    const std::vector<float> expected = result(op, CudaPath::simt);
    for (const CudaPath path : paths) {
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

/// Experts whose last tiles of rows are empty, of one row, full or nearly so, alone or in pairs.
struct Experts {
  const char* name;
  std::vector<int32_t> rows;
};
const std::vector<Experts> kExpertRows = {
    {"few rows each",
     [] {
       std::vector<int32_t> rows;
       for (int e = 0; e < 40; ++e) rows.push_back(640 + 13 * (e * 7 % 11));
       rows[3] = 0, rows[4] = 1, rows[17] = 127, rows[18] = 128, rows[39] = 129;
       return rows;
     }()},
    {"thousands of rows", {3000, 0, 1, 127, 128, 129, 255, 257, 5000, 2560}},
};

std::vector<int32_t> offsets_of(const std::vector<int32_t>& rows) {
  std::vector<int32_t> offsets{0};
  for (const int32_t count : rows) offsets.push_back(offsets.back() + count);
  return offsets;
}

TEST_F(ProductPaths, OfExpertsWhoseBlocksTakeTileAfterTile) {
  for (const auto& [name, rows] : kExpertRows) {
    const auto experts = static_cast<int64_t>(rows.size());
    const std::vector<int32_t> begins = offsets_of(rows);
    const View offsets = integers(begins), picked = random_rows(begins.back());
    for (const int64_t columns : {128, 352, 432, 512}) {  // one of each width of Hopper's tiles
      for (const bool transpose_b : {false, true}) {
        const bool gathered = columns % 128 == 0;  // the widths between are for rows that are not
        for (const int processors : {0, 3}) {
          SCOPED_TRACE(
              fmt::format("{}: {} columns, transpose_b={}, {} processors", name, columns, transpose_b, processors));
          force_cuda_processors(processors);
          const Shape b = transpose_b ? Shape{experts, columns, 200} : Shape{experts, 200, columns};
          expect_agreement(GroupedGemm{.a = floats(DType::bf16, {gathered ? kTokens : begins.back(), 200}),
                                       .a_rows = gathered ? picked : View{},
                                       .offsets = offsets,
                                       .b = floats(DType::bf16, b),
                                       .c = empty(DType::bf16, {begins.back(), columns}),
                                       .transpose_b = transpose_b},
                           2e-3, {CudaPath::hopper});
        }
      }
    }
  }
}

/// What adapters of one to three slices add, in the sums of the product: against the products in turn with an f32 c,
/// which is not rounded between them.
TEST_F(ProductPaths, WithWhatAdaptersAddToExpertsRows) {
  constexpr int64_t kDepth = 392;
  for (const auto& [name, rows] : kExpertRows) {
    const auto experts = static_cast<int64_t>(rows.size());
    const std::vector<int32_t> begins = offsets_of(rows);
    const View offsets = integers(begins), picked = random_rows(begins.back());
    for (const int64_t slices : {1, 2, 3}) {
      for (const bool transpose_b : {true, false}) {
        for (const bool gathered : {true, false}) {
          for (const int processors : {0, 3}) {
            SCOPED_TRACE(fmt::format("{}: {} slices, transpose_b={}, gathered={}, {} processors", name, slices,
                                     transpose_b, gathered, processors));
            const int64_t rank = 8, columns = slices == 3 ? 1032 : slices == 2 ? 2 * 704 : 432;
            const Shape b = transpose_b ? Shape{experts, columns, kDepth} : Shape{experts, kDepth, columns};
            AdaptedProduct op{.product = {.a = floats(DType::bf16, {gathered ? kTokens : begins.back(), kDepth}),
                                          .a_rows = gathered ? picked : View{},
                                          .offsets = offsets,
                                          .b = floats(DType::bf16, b),
                                          .c = empty(DType::bf16, {begins.back(), columns}),
                                          .transpose_b = transpose_b},
                              .low = floats(DType::bf16, {begins.back(), slices * rank}),
                              .b = floats(DType::bf16, transpose_b ? Shape{experts, columns, rank}
                                                                   : Shape{experts, slices * rank, columns}),
                              .slices = {slices == 3   ? 400
                                         : slices == 2 ? 704
                                                       : 432,
                                         slices == 3   ? 400
                                         : slices == 2 ? 704
                                                       : 0,
                                         slices == 3 ? 232 : 0}};
            const bool activates = transpose_b && slices == 2;
            const View y = empty(DType::bf16, {begins.back(), columns / 2}), again = empty(DType::bf16, y.shape);
            if (activates) {
              op.activation = {.gate_up = op.product.c, .row_count = offsets.rows(experts, 1), .y = y};
            }
            AdaptedProduct exact = op;
            exact.activation = {};
            exact.product.c = empty(DType::f32, op.product.c.shape);
            force_cuda_processors(processors);
            force_cuda_path(CudaPath::automatic);
            gpu_->backend->run(Fill{.x = y, .value = 0.5});
            gpu_->backend->run(Fill{.x = again, .value = 0.5});
            const int64_t fused_before = cuda_fused_products();
            run(*gpu_->backend, op);
            if (dynamic_cast<cuda::CudaDevice&>(*gpu_->device).properties().major == 9) {
              EXPECT_EQ(cuda_fused_products(), fused_before + 1);
            }
            gpu_->backend->run(exact.product);
            for (const GroupedGemm& change : exact.changes()) gpu_->backend->run(change);
            const std::vector<float> found = values(op.product.c), expected = values(exact.product.c);
            double error = 0, norm = 0, worst = 0;
            for (size_t i = 0; i < found.size(); ++i) {
              const double difference = static_cast<double>(found[i]) - static_cast<double>(expected[i]);
              error += difference * difference;
              norm += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
              worst = std::max(worst, std::isnan(difference) ? HUGE_VAL : std::fabs(difference));
            }
            EXPECT_LT(std::sqrt(error / norm), 2e-3) << worst;
            EXPECT_LT(worst, 300 * 2e-3);
            if (!activates) continue;
            op.activation.y = again;
            gpu_->backend->run(op.activation);
            EXPECT_EQ(values(y), values(again));
          }
        }
      }
    }
  }
}

TEST_F(ProductPaths, ReducedOverExpertsWhoseBlocksTakeTileAfterTile) {
  // The tensor cores cut off what an f32 sum has no room for, up to 2^-23 of it and half of that on average, after
  // every 16 rows; the sums before the last are two thirds of it in size.
  constexpr double kMostRows = 5000, kTolerance = kMostRows / 16 * 0x1p-24 * 2 / 3;
  for (const auto& [name, rows] : kExpertRows) {
    const auto experts = static_cast<int64_t>(rows.size());
    const std::vector<int32_t> begins = offsets_of(rows);
    const View offsets = integers(begins), picked = random_rows(begins.back());
    for (const Shape& c : {Shape{experts, 1152, 432}, Shape{experts, 352, 1280}, Shape{experts, 264, 176}}) {
      for (const int gathered : {0, 1, 2}) {
        for (const int processors : {0, 3}) {
          SCOPED_TRACE(fmt::format("{}: {}, gathered={}, {} processors", name, c.text(), gathered, processors));
          force_cuda_processors(processors);
          expect_agreement(GroupedGemmReduce{.a = floats(DType::bf16, {gathered == 1 ? kTokens : begins.back(), c[1]}),
                                             .a_rows = gathered == 1 ? picked : View{},
                                             .b = floats(DType::bf16, {gathered == 2 ? kTokens : begins.back(), c[2]}),
                                             .b_rows = gathered == 2 ? picked : View{},
                                             .offsets = offsets,
                                             .c = empty(DType::f32, c),
                                             .accumulate = processors == 3},
                           kTolerance, {CudaPath::hopper});
        }
      }
    }
  }
}

TEST_F(ProductPaths, AnF32OperandBesideBf16KeepsItsDigits) {
  // Automatic: three bf16 parts on the tensor cores; simt: f32 arithmetic.
  // 64, and a number that makes rows which are no multiple of 16 bytes.
  for (const int64_t experts : {64, 63}) {
    for (const int which : {0, 1, 2, 3}) {
      const bool transpose_a = which % 2 == 1;
      const DType out = which / 2 == 0 ? DType::f32 : DType::bf16;
      const Gemm op{.a = floats(DType::f32, {kTokens, experts}),
                    .b = floats(DType::bf16, {transpose_a ? kTokens : experts, kHidden}),
                    .c = empty(out, {transpose_a ? experts : kTokens, kHidden}),
                    .transpose_a = transpose_a,
                    .accumulate = true};
      // Twice and more what bf16 operands get: three sums, and the tensor cores cut digits off when they add.
      expect_agreement(op, out == DType::f32 ? 3e-6 : 2e-3);
    }
  }
}

}  // namespace
}  // namespace moe
