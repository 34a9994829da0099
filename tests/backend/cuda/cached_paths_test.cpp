// The kernels of attention over cached keys against each other: long contexts, sequences of very different lengths,
// prompts among single tokens, pages in no order. What is in a page behind a sequence's last key is no number. And
// which operation gets which kernels, which needs no GPU.

#include <cmath>
#include <numeric>

#include "backend/cuda/attention_path.h"
#include "tests/backend/cuda/gpu_test.h"
#include "tests/backend/cuda/near_rows.h"

namespace moe {
namespace {

/// Tokens of one sequence that a call computes; 0 of them: so many masked tokens, as `before` says.
struct Part {
  int before, count;
};

struct Call {
  const char* name;
  std::vector<Part> parts;
  int heads, kv_heads, size;
  int page = 64;
};
void PrintTo(const Call& call, std::ostream* out) { *out << call.name; }

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class CachedPaths : public GpuTest, public testing::WithParamInterface<Call> {
 protected:
  void prepare() {
    const Call& call = GetParam();
    std::vector<int32_t> sequence, positions;
    std::vector<int> lengths;
    int longest = 1;
    for (const Part& part : call.parts) {
      const int number = part.count == 0 ? -1 : static_cast<int>(lengths.size());
      for (int i = 0; i < (part.count == 0 ? part.before : part.count); ++i) {
        sequence.push_back(number);
        positions.push_back(part.count == 0 ? -7 : part.before + i);
      }
      if (part.count > 0) lengths.push_back(part.before + part.count);
      longest = std::max(longest, part.before + part.count);
    }
    const int each = (longest + call.page - 1) / call.page + 1;
    std::vector<int32_t> table(lengths.size() * static_cast<size_t>(each), -1);
    std::vector<int32_t> free(table.size() + 3);
    std::iota(free.begin(), free.end(), 0);
    const Random random(2, 0);
    for (size_t i = free.size(); i-- > 1;) std::swap(free[i], free[random.below(i, i + 1)]);
    size_t used = 0;
    const int64_t kv = int64_t{call.kv_heads} * call.size, width = int64_t{call.heads} * call.size;
    const auto tokens = static_cast<int64_t>(sequence.size());
    for (size_t s = 0; s < lengths.size(); ++s) {
      for (int page = 0; page * call.page < lengths[s]; ++page)
        table[s * static_cast<size_t>(each) + static_cast<size_t>(page)] = free[used++];
    }
    const auto pages = static_cast<int64_t>(free.size());
    op_ = {.q = floats(DType::bf16, {tokens, width}),
           .k_cache = empty(DType::bf16, {pages, call.page, kv}),
           .v_cache = empty(DType::bf16, {pages, call.page, kv}),
           .sequence = integers(sequence),
           .positions = integers(positions),
           .pages = integers(table).reshaped({static_cast<int64_t>(lengths.size()), each}),
           .heads = call.heads,
           .kv_heads = call.kv_heads,
           .scale = 1 / std::sqrt(static_cast<float>(call.size)),
           .out = empty(DType::bf16, {tokens, width})};
    for (const View& cache : {op_.k_cache, op_.v_cache}) gpu_->backend->run(Fill{.x = cache, .value = kNan});
    for (size_t s = 0; s < lengths.size(); ++s) {
      std::vector<int32_t> all(static_cast<size_t>(lengths[s]));
      std::iota(all.begin(), all.end(), 0);
      gpu_->backend->run(KvAppend{.k = floats(DType::bf16, {lengths[s], kv}),
                                  .v = floats(DType::bf16, {lengths[s], kv}),
                                  .sequence = integers(std::vector<int32_t>(all.size(), static_cast<int32_t>(s))),
                                  .positions = integers(all),
                                  .pages = op_.pages,
                                  .k_cache = op_.k_cache,
                                  .v_cache = op_.v_cache});
    }
  }

  std::vector<float> run(CudaPath path) {
    gpu_->backend->run(Fill{.x = op_.out, .value = kNan});
    force_cuda_path(path);
    gpu_->backend->run(op_);
    force_cuda_path(CudaPath::automatic);
    return values(op_.out);
  }

  CachedAttention op_;
};

TEST_P(CachedPaths, AgreeWithF32ArithmeticAndRepeatTheirBits) {
  prepare();
  const std::vector<float> expected = run(CudaPath::simt);
  for (const float x : expected) ASSERT_TRUE(std::isfinite(x));
  const std::vector<double> usual = usual_sizes(expected, static_cast<size_t>(GetParam().size));
  for (const CudaPath path : {CudaPath::tensor, CudaPath::hopper}) {
    SCOPED_TRACE(name(path));
    const std::vector<float> found = run(path);
    expect_near("out", found, expected, usual);
    for (int again = 0; again < 3; ++again) EXPECT_TRUE(run(path) == found) << "other bits the next time";
    force_cuda_processors(3);  // each block takes many tiles
    expect_near("out on three processors", run(path), expected, usual);
    force_cuda_processors(0);
  }
}

std::vector<Part> many(int sequences, int before) {
  return std::vector<Part>(static_cast<size_t>(sequences), Part{before, 1});
}
const std::vector<Part> kDifferent = {{20000, 1}, {0, 1}, {63, 1}, {64, 1}, {3, 0}, {511, 1}, {4095, 1}, {130, 1}};
const std::vector<Part> kMixed = {{700, 1}, {0, 1},  {1000, 300}, {5, 0},   {64, 64},  {63, 65}, {2, 127},
                                  {0, 128}, {1, 20}, {4000, 17},  {37, 90}, {2047, 1}, {0, 513}};

INSTANTIATE_TEST_SUITE_P(
    Shapes, CachedPaths,
    testing::Values(Call{"one_of_1", {{0, 1}}, 16, 16, 128}, Call{"one_of_513", {{512, 1}}, 16, 16, 128},
                    Call{"eight_of_513", many(8, 512), 16, 16, 128}, Call{"sixteen_of_77", many(16, 76), 2, 2, 64},
                    Call{"few_different", kDifferent, 16, 16, 128}, Call{"few_different_64", kDifferent, 3, 3, 64, 192},
                    Call{"run_of_five", {{1000, 5}, {0, 3}, {2, 0}, {63, 2}}, 4, 4, 128},
                    Call{"one_of_4096", {{4095, 1}}, 16, 16, 128}, Call{"one_of_16385", {{16384, 1}}, 4, 2, 128},
                    Call{"one_key_head", {{9000, 1}}, 16, 1, 128}, Call{"64_of_512", many(64, 511), 16, 16, 128},
                    Call{"128_of_100", many(128, 99), 4, 4, 64}, Call{"200_of_70", many(200, 69), 4, 1, 64},
                    Call{"different_128", kDifferent, 8, 1, 128}, Call{"different_64", kDifferent, 4, 4, 64, 128},
                    Call{"different_96", kDifferent, 4, 1, 96, 7}, Call{"different_13", kDifferent, 2, 1, 13},
                    Call{"many_heads_a_key", kDifferent, 40, 2, 64}, Call{"short_run", {{3000, 100}}, 4, 2, 128},
                    Call{"prompt_of_4096", {{0, 4096}}, 4, 4, 128},
                    Call{"prompt_behind_5000", {{5000, 2048}}, 4, 2, 128}, Call{"prompt_64", {{100, 3000}}, 4, 1, 64},
                    Call{"prompt_of_129", {{0, 129}}, 2, 2, 128}, Call{"prompt_page_128", {{77, 1000}}, 2, 2, 128, 128},
                    Call{"prompt_page_1", {{5, 300}}, 2, 2, 128, 1}, Call{"prompt_96", {{64, 700}}, 2, 1, 96, 7},
                    Call{"mixed_128", kMixed, 8, 2, 128}, Call{"mixed_64", kMixed, 4, 4, 64},
                    Call{"mixed_64_page_192", kMixed, 8, 1, 64, 192},
                    Call{"nearly_all_masked", {{300, 0}, {2, 1}}, 2, 2, 64}),
    [](const auto& call) { return call.param.name; });

/// Which path views of these properties get; no memory is touched.
struct Views {
  int64_t size = 128, gap = 0, page = 64, page_gap = 0;
  DType dtype = DType::bf16, cache = DType::bf16;
};

CudaPath chosen(const Views& v, CudaPath forced = CudaPath::automatic, int capability = 90) {
  void* const data = reinterpret_cast<void*>(int64_t{4096});  // NOLINT
  View q(data, v.dtype, {300, 2 * v.size}), cache(data, v.cache, {9, v.page, 2 * v.size});
  cache.stride[1] += v.gap;
  cache.stride[0] += v.page * v.gap + v.page_gap;
  const CachedAttention op{.q = q,
                           .k_cache = cache,
                           .v_cache = cache,
                           .sequence = {},
                           .positions = {},
                           .pages = {},
                           .heads = 2,
                           .kv_heads = 2,
                           .scale = 1,
                           .out = q};
  return cuda::attention_path(op, forced, capability);
}

TEST(CachedPath, IsChosenByTypesSizesPagesAndAlignment) {
  const CudaPath hopper = chosen({}) == CudaPath::hopper ? CudaPath::hopper : CudaPath::tensor;  // what was compiled
  EXPECT_EQ(chosen({.size = 64, .page = 128}), hopper);
  EXPECT_EQ(chosen({.gap = 8, .page_gap = 8}), hopper);
  EXPECT_EQ(chosen({.page = 1}), CudaPath::tensor);
  EXPECT_EQ(chosen({.page = 96}), CudaPath::tensor);
  EXPECT_EQ(chosen({.size = 96}), CudaPath::tensor);
  EXPECT_EQ(chosen({}, CudaPath::portable), CudaPath::tensor);
  EXPECT_EQ(chosen({}, CudaPath::automatic, 80), CudaPath::tensor);
  EXPECT_EQ(chosen({}, CudaPath::simt), CudaPath::simt);
  EXPECT_EQ(chosen({.gap = 1}), CudaPath::simt);
  EXPECT_EQ(chosen({.page_gap = 1}), CudaPath::simt);
  EXPECT_EQ(chosen({.size = 13}), CudaPath::simt);
  EXPECT_EQ(chosen({.size = 136}), CudaPath::simt);
  EXPECT_EQ(chosen({.cache = DType::f32}), CudaPath::simt);
}

}  // namespace
}  // namespace moe
