// The kernels of attention against each other, over thousands of tokens: documents that begin and end at, before and
// after the edges of tiles, padding, heads in groups, all parts of one matrix [q | k | v]. And which operation gets
// which kernels, which needs no GPU.

#include <cmath>
#include <numeric>

#include "backend/cuda/attention_path.h"
#include "tests/backend/cuda/gpu_test.h"
#include "tests/backend/cuda/near_rows.h"

namespace moe {
namespace {

/// Lengths of documents, negative for padding.
using Documents = std::vector<int>;

struct Call {
  const char* name;
  Documents documents;
  int heads, kv_heads, size;
};
void PrintTo(const Call& call, std::ostream* out) { *out << call.name; }

std::vector<int32_t> starts_of(const Documents& documents) {
  std::vector<int32_t> starts;
  for (const int length : documents) {
    const auto start = static_cast<int32_t>(starts.size());
    starts.insert(starts.end(), static_cast<size_t>(std::abs(length)), length > 0 ? start : -1);
  }
  return starts;
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class AttentionPaths : public GpuTest, public testing::WithParamInterface<Call> {
 protected:
  struct Results {
    std::vector<float> out, lse, dq, dk, dv;
    bool operator==(const Results&) const = default;
  };

  void prepare() {
    const Call& call = GetParam();
    const std::vector<int32_t> starts = starts_of(call.documents);
    const auto tokens = static_cast<int64_t>(starts.size());
    const int64_t q = int64_t{call.heads} * call.size, kv = int64_t{call.kv_heads} * call.size;
    const View qkv = floats(DType::bf16, {tokens, q + 2 * kv});
    gradient_ = empty(DType::bf16, {tokens, q + 2 * kv});
    forward_ = {.q = qkv.columns(0, q),
                .k = qkv.columns(q, kv),
                .v = qkv.columns(q + kv, kv),
                .segment_start = integers(starts),
                .heads = call.heads,
                .kv_heads = call.kv_heads,
                .scale = 1 / std::sqrt(static_cast<float>(call.size)),
                .max_segment = std::max(1, *std::max_element(call.documents.begin(), call.documents.end())),
                .out = empty(DType::bf16, {tokens, q}),
                .lse = empty(DType::f32, {tokens, call.heads})};
    backward_ = {.q = forward_.q,
                 .k = forward_.k,
                 .v = forward_.v,
                 .segment_start = forward_.segment_start,
                 .out = forward_.out,
                 .lse = forward_.lse,
                 .d_out = floats(DType::bf16, {tokens, q}),
                 .heads = call.heads,
                 .kv_heads = call.kv_heads,
                 .scale = forward_.scale,
                 .max_segment = forward_.max_segment,
                 .dq = gradient_.columns(0, q),
                 .dk = gradient_.columns(q, kv),
                 .dv = gradient_.columns(q + kv, kv)};
  }

  Results run(CudaPath path) {
    for (const View& view : {forward_.out, forward_.lse, gradient_}) gpu_->backend->run(Fill{.x = view, .value = kNan});
    force_cuda_path(path);
    gpu_->backend->run(forward_);
    gpu_->backend->run(backward_);
    force_cuda_path(CudaPath::automatic);
    const std::vector<float> gradient = values(gradient_);
    const int64_t q = backward_.dq.size(1), kv = backward_.dk.size(1);
    return {values(forward_.out), values(forward_.lse), columns(gradient, 0, q), columns(gradient, q, kv),
            columns(gradient, q + kv, kv)};
  }

  /// Of the rows of gradient_.
  std::vector<float> columns(const std::vector<float>& rows, int64_t first, int64_t count) const {
    std::vector<float> result;
    for (int64_t at = first; at < static_cast<int64_t>(rows.size()); at += gradient_.size(1)) {
      result.insert(result.end(), rows.begin() + at, rows.begin() + at + count);
    }
    return result;
  }

  std::vector<double> usual(const std::vector<float>& x, const std::vector<float>* parts = nullptr) const {
    return usual_sizes(x, static_cast<size_t>(GetParam().size), parts);
  }

  static void expect_equal_sums(const std::vector<float>& found, const std::vector<float>& expected) {
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_NEAR(found[i], expected[i], 5e-5 * (1 + std::fabs(static_cast<double>(expected[i]))))
          << "lse[" << i << "]";
    }
  }

  Attention forward_;
  AttentionBackward backward_;
  View gradient_;
};

TEST_P(AttentionPaths, AgreeWithF32ArithmeticAndRepeatTheirBits) {
  prepare();
  const Results expected = run(CudaPath::simt);
  for (const CudaPath path : {CudaPath::tensor, CudaPath::hopper}) {
    SCOPED_TRACE(name(path));
    const Results found = run(path);
    expect_near("out", found.out, expected.out, usual(expected.out));
    expect_equal_sums(found.lse, expected.lse);
    expect_near("dq", found.dq, expected.dq, usual(expected.dq, &expected.out));
    expect_near("dk", found.dk, expected.dk, usual(expected.dk, &expected.dv));
    expect_near("dv", found.dv, expected.dv, usual(expected.dv));
    for (int again = 0; again < 3; ++again) EXPECT_TRUE(run(path) == found) << "other bits the next time";
    force_cuda_processors(3);  // each block takes many pieces of work
    EXPECT_TRUE(run(path) == found) << "other bits on three processors";
    force_cuda_processors(0);
  }
}

const Documents kEdges = {63, 64, 65, 127, 128, 129, 1, 1, 1, 62, 2, 191, 192, 193, 256, -70, 200};
const Documents kPadding = {-1, 130, -130, 70, -64, 64, -129, 1, -3, 300, -200};

INSTANTIATE_TEST_SUITE_P(
    Shapes, AttentionPaths,
    testing::Values(Call{"one_tile_128", {128}, 1, 1, 128}, Call{"one_tile_64", {64}, 1, 1, 64},
                    Call{"few_keys", {5}, 1, 1, 128}, Call{"three_tiles", {384}, 1, 1, 128},
                    Call{"edges_128", kEdges, 4, 2, 128}, Call{"edges_64", kEdges, 4, 4, 64},
                    Call{"edges_96", kEdges, 2, 1, 96}, Call{"edges_13", kEdges, 2, 1, 13},
                    Call{"padding_128", kPadding, 3, 1, 128}, Call{"padding_64", kPadding, 4, 1, 64},
                    Call{"all_padding", {-200}, 2, 1, 128}, Call{"single_tokens", Documents(333, 1), 2, 2, 128},
                    Call{"three_of_1500", {1500, 1500, 1500}, 4, 2, 128}, Call{"one_of_5000", {5000}, 2, 2, 128},
                    Call{"of_5000_in_a_group", {5000}, 4, 1, 64}, Call{"rows_of_2048", {2048, 2048, 2048}, 3, 3, 128},
                    Call{"many_pieces", {700, 1400, 33, 2000, 128, 64, 1700, -40, 2048}, 10, 10, 128}),
    [](const auto& call) { return call.param.name; });

/// Which path views of these properties get; no memory is touched.
struct Views {
  int64_t size = 128, gap = 0, offset = 0;
  DType dtype = DType::bf16, out = DType::bf16;
  float scale = 1;
};

CudaPath chosen(const Views& v, CudaPath forced = CudaPath::automatic, int capability = 90) {
  const auto view = [&](DType dtype) {
    View result(reinterpret_cast<void*>(int64_t{4096} + v.offset), dtype, {300, 2 * v.size});  // NOLINT
    result.stride[0] += v.gap;
    return result;
  };
  const Attention forward{.q = view(v.dtype),
                          .k = view(v.dtype),
                          .v = view(v.dtype),
                          .segment_start = {},
                          .heads = 2,
                          .kv_heads = 2,
                          .scale = v.scale,
                          .max_segment = 300,
                          .out = view(v.out),
                          .lse = {}};
  const AttentionBackward backward{.q = forward.q,
                                   .k = forward.k,
                                   .v = forward.v,
                                   .segment_start = {},
                                   .out = forward.out,
                                   .lse = {},
                                   .d_out = view(v.out),
                                   .heads = 2,
                                   .kv_heads = 2,
                                   .scale = v.scale,
                                   .max_segment = 300,
                                   .dq = view(v.dtype),
                                   .dk = view(v.dtype),
                                   .dv = view(v.dtype)};
  const CudaPath path = cuda::attention_path(forward, forced, capability);
  EXPECT_EQ(cuda::attention_path(backward, forced, capability), path) << "forward and backward differ";
  return path;
}

TEST(AttentionPath, IsChosenByTypesSizesAndAlignment) {
  const CudaPath hopper = chosen({}) == CudaPath::hopper ? CudaPath::hopper : CudaPath::tensor;  // what was compiled
  EXPECT_EQ(chosen({.size = 64}), hopper);
  EXPECT_EQ(chosen({.gap = 8}), hopper);
  EXPECT_EQ(chosen({}, CudaPath::hopper), hopper);
  EXPECT_EQ(chosen({.size = 96}), CudaPath::tensor);
  EXPECT_EQ(chosen({.size = 8}), CudaPath::tensor);
  EXPECT_EQ(chosen({}, CudaPath::tensor), CudaPath::tensor);
  EXPECT_EQ(chosen({}, CudaPath::portable), CudaPath::tensor);
  EXPECT_EQ(chosen({}, CudaPath::automatic, 80), CudaPath::tensor);
  EXPECT_EQ(chosen({}, CudaPath::hopper, 100), CudaPath::tensor);
  EXPECT_EQ(chosen({}, CudaPath::simt), CudaPath::simt);
  EXPECT_EQ(chosen({.gap = 1}), CudaPath::simt);
  EXPECT_EQ(chosen({.offset = 2}), CudaPath::simt);
  EXPECT_EQ(chosen({.size = 13}), CudaPath::simt);
  EXPECT_EQ(chosen({.size = 136}), CudaPath::simt);
  EXPECT_EQ(chosen({.dtype = DType::f32}), CudaPath::simt);
  EXPECT_EQ(chosen({.out = DType::f32}), CudaPath::simt);
  EXPECT_EQ(chosen({.scale = -1}), CudaPath::simt);
}

}  // namespace
}  // namespace moe
