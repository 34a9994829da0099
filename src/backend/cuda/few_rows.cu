#include <type_traits>

#include "backend/cuda/block_rows.h"
#include "backend/cuda/cache_hints.cuh"
#include "backend/cuda/early.cuh"
#include "backend/cuda/few_rows.h"
#include "backend/cuda/few_rows_problem.cuh"
#include "backend/cuda/norm_of_few.cuh"
#include "backend/cuda/tensor_core.cuh"
#include "backend/cuda/wide_rows.h"

namespace moe::cuda {
namespace {

using namespace few_rows;
using norm_of_few::Norm;

constexpr int kOutputs = 16;        ///< rows of the weight that a block takes, of one half with SwiGLU
constexpr int kLine = 64;           ///< weights of a row that a warp takes at a time: 128 bytes
constexpr int kBlocksTogether = 2;  ///< on a multiprocessor
// Above these, others are faster: the library, or tiles of many rows whose loads the copy engine makes.
constexpr int64_t kMostRows = 2 * kTokens, kMostOutputs = 32768;
constexpr int64_t kMostSizeOfManyRows = 4096;  ///< outputs and reduced dimension, of more than kTokens rows
constexpr int64_t kNarrow = 512;  ///< outputs of a router: weights so few that they may be read several times
constexpr int64_t kMostRowsOfNarrow = 64;
constexpr int64_t kMostRowsOfAnExpert = 4;  ///< on average

/// Weights are read once, so they should not push x out of the L1 cache, nor others out of the L2 cache.
__device__ uint4 load_weights(const __nv_bfloat16* from, uint64_t policy) {
  uint4 bits;
  asm volatile("ld.global.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
               : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
               : "l"(from), "l"(policy));
  return bits;
}

__device__ unsigned word(const uint4& bits, int i) {
  return i == 0 ? bits.x : i == 1 ? bits.y : i == 2 ? bits.z : bits.w;
}

/// The warps of a block share the reduced dimension: warp w takes lines w, w + kWarps, ... The weights are the tensor
/// cores' rows and the tokens their columns. A lane reads 16 bytes of a row, which are two chunks of the reduced
/// dimension; x is read in the same order, so no element has to move. A block takes item after item, and a lane asks
/// for weights kAhead lines before it needs them, those of the next item too. The warps' sums are added in order.
/// `kWithNorm`: each block makes the rows of x, the result of `norm`, for itself.
template <int kTokenTiles, bool kSwiglu, bool kGrouped, bool kWithNorm = false, int kAhead = kSwiglu ? 2 : 4,
          int kTogether = kBlocksTogether>
__global__ void __launch_bounds__(kThreads, kTogether)
    few_rows_kernel(const __grid_constant__ FewRows p, const __grid_constant__ norm_of_few::Norm norm) {
  static_assert(kThreads == norm_of_few::kThreads);
  constexpr int kHalves = kSwiglu ? 2 : 1;
  constexpr int kBuffers = kTogether == 2 ? 2 : 1;
  __shared__ float all_sums[kBuffers][kWarps][kHalves][kTokenTiles * kTokens * kTokenStep];
  __shared__ std::conditional_t<kGrouped, Active, char> active;
  __shared__ __align__(16) std::conditional_t<kWithNorm, norm_of_few::Rows, char> normed;
  const __nv_bfloat16* from_x = p.x;
  int64_t x_step = p.x_step;
  if constexpr (kWithNorm) from_x = normed[0], x_step = norm_of_few::kMostWidth;
  const int slabs = (p.n + kOutputs - 1) / kOutputs;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int group = lane / 4, chunk = lane % 4;
  const int lines = (p.k + kLine - 1) / kLine;
  const int rounds = (lines + kWarps * kAhead - 1) / (kWarps * kAhead) * kAhead;

  const auto item_at = [&](int slab) {
    const int place = slab / slabs;
    if constexpr (!kGrouped) {
      const int first = place * kTokenTiles * kTokens;
      return Item{slab, first, min(p.rows, first + kTokenTiles * kTokens)};
    } else {
      if (place >= active.count) return Item{slab, 0, 0};
      return Item{slab, active.begin[place], active.end[place]};
    }
  };
  const auto next_of = [&](const Item& item) {
    if (item.first + kTokenTiles * kTokens >= item.end) return item_at(item.slab + static_cast<int>(gridDim.x));
    return Item{item.slab, item.first + kTokenTiles * kTokens, item.end};
  };

  const uint64_t policy = load_policy(p.n > kNarrow);
  uint4 held[kAhead][kHalves][2][2];  // [line][half][rows 0-7, 8-15][part of the line]
  const __nv_bfloat16* w = nullptr;   // this lane's first weight in the first row that it loads of
  int outputs = 0;                    // of the slab that is loaded, from this lane's first row on
  const auto load_from = [&](const Item& item) {
    const int output = item.slab % slabs * kOutputs + group;
    outputs = item.first < item.end ? p.n - output : 0;
    w = static_cast<const __nv_bfloat16*>(p.w) + static_cast<int64_t>(output) * p.w_step + chunk * kChunk;
    if constexpr (kGrouped) {
      if (item.first < item.end) w += active.expert[item.slab / slabs] * p.w_expert;
    }
  };
  const auto load = [&](int round, int place) {
    const int line = (round * kWarps + warp) * kLine;
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
#pragma unroll
      for (int rows = 0; rows < 2; ++rows) {
        const __nv_bfloat16* const from = w + static_cast<int64_t>(half * p.n + 8 * rows) * p.w_step + line;
#pragma unroll
        for (int part = 0; part < 2; ++part) {
          const int column = part * kLine / 2;
          const bool inside = 8 * rows < outputs && line + column + chunk * kChunk < p.k;
          held[place][half][rows][part] = inside ? load_weights(from + column, policy) : uint4{};
        }
      }
    }
  };
  const auto load_first = [&](const Item& item) {
    load_from(item);
#pragma unroll
    for (int a = 0; a < kAhead; ++a) load(a, a);
  };

  let_next_start();
  if constexpr (kWithNorm) ask_for_chunk(norm.gain, 0, static_cast<int>(threadIdx.x) * kChunk, norm.width);
  if constexpr (kGrouped) {
    wait_for_weights(p, active);
  } else {
    wait_for_weights(p);
  }
  Item item = item_at(static_cast<int>(blockIdx.x));
  load_first(item);
  wait_for_rows(p);
  if constexpr (kWithNorm) {
    __shared__ float norm_sums[norm_of_few::kWarps];
    norm_of_few::make_norm(norm, normed, norm_sums);
    __syncthreads();
  }

  for (int buffer = 0; item.first < item.end; buffer = (buffer + 1) % kBuffers) {
    auto& sums = all_sums[buffer];
    const __nv_bfloat16* x[kTokenTiles];
#pragma unroll
    for (int j = 0; j < kTokenTiles; ++j) {
      const int row = item.first + j * kTokens + group;
      x[j] = row < item.end
                 ? from_x + static_cast<int64_t>(kGrouped && p.x_rows != nullptr ? p.x_rows[row] : row) * x_step +
                       chunk * kChunk
                 : nullptr;
    }
    // Of the result that this thread stores, long before it is needed.
    static_assert(!kSwiglu || kTokenTiles * kTokens * kOutputs <= kThreads);
    float factor = 1;
    if constexpr (kSwiglu) {
      const int row = item.first + static_cast<int>(threadIdx.x) / kOutputs;
      if (p.act.scale != nullptr && row < item.end) factor = p.act.scale[p.act.scale_index[row]];
    }
    float sum[kHalves][kTokenTiles][4] = {};
    Item next{};
    for (int round = 0; round < rounds; round += kAhead) {
      const bool last = round + kAhead >= rounds;
      if (last) {
        next = next_of(item);
        load_from(next);
      }
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const int line = ((round + a) * kWarps + warp) * kLine;
        uint4 tokens[kTokenTiles][2];
#pragma unroll
        for (int j = 0; j < kTokenTiles; ++j) {
#pragma unroll
          for (int part = 0; part < 2; ++part) {
            const int column = line + part * kLine / 2;
            tokens[j][part] = x[j] != nullptr && column + chunk * kChunk < p.k
                                  ? *reinterpret_cast<const uint4*>(x[j] + column)
                                  : uint4{};
          }
        }
#pragma unroll
        for (int j = 0; j < kTokenTiles; ++j) {
          if (item.first + j * kTokens >= item.end) continue;
#pragma unroll
          for (int half = 0; half < kHalves; ++half) {
#pragma unroll
            for (int quarter = 0; quarter < 4; ++quarter) {
              const int part = quarter / 2, low = quarter % 2 * 2;
              const uint4 &top = held[a][half][0][part], &bottom = held[a][half][1][part];
              const unsigned weights[4] = {word(top, low), word(bottom, low), word(top, low + 1),
                                           word(bottom, low + 1)};
              multiply_add(sum[half][j], weights, word(tokens[j][part], low), word(tokens[j][part], low + 1));
            }
          }
        }
        load(last ? a : round + kAhead + a, a);
      }
    }
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
#pragma unroll
      for (int j = 0; j < kTokenTiles; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          sums[warp][half][(j * kTokens + chunk * 2 + i % 2) * kTokenStep + group + i / 2 * 8] = sum[half][j][i];
        }
      }
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kTokenTiles * kTokens * kOutputs; i += kThreads) {
      const int row = item.first + i / kOutputs, output = item.slab % slabs * kOutputs + i % kOutputs;
      if (row >= item.end || output >= p.n) continue;
      const int place = i / kOutputs * kTokenStep + i % kOutputs;
      float total[kHalves] = {};
#pragma unroll
      for (int half = 0; half < kHalves; ++half) {
#pragma unroll
        for (int other = 0; other < kWarps; ++other) total[half] += sums[other][half][place];
      }
      store_result<kSwiglu>(p, row, output, total, factor);
    }
    // With two buffers, who is at the barrier of the next item has read what the one after that overwrites.
    if constexpr (kBuffers == 1) __syncthreads();
    item = next;
  }
  if constexpr (kGrouped) {
    end_of_experts(p);
  } else if constexpr (!kSwiglu) {
    if (p.arrived != nullptr) arrive(p.arrived);
  }
}

/// What both kinds of product need: bf16 in whole chunks, x W^T, and a path that may be any.
template <class Op>
bool supported(const Op& op) {
  const int64_t k = op.a.size(1);
  return may_use_library() && op.transpose_b && k > 0 && k < INT32_MAX && in_chunks(op.a) && in_chunks(op.b) &&
         op.c.elements() > 0;
}

bool suits(const Gemm& op) {
  const int64_t rows = op.c.size(0), outputs = op.c.size(1);
  if (op.transpose_a || !supported(op)) return false;
  if (outputs <= kNarrow && rows <= kMostRowsOfNarrow) return true;
  return outputs <= kMostOutputs &&
         (rows <= kTokens || (rows <= kMostRows && std::max(outputs, op.a.size(1)) <= kMostSizeOfManyRows));
}
bool suits(const GroupedGemm& op) {
  return supported(op) && op.c.size(0) <= kMostRowsOfAnExpert * op.b.size(0) && op.b.size(0) <= kMostExperts &&
         op.b.size(1) < INT32_MAX / 2;
}

template <bool kSwiglu>
void start(const Context& context, const FewRows& p) {
  constexpr int kEach = kSwiglu ? 3 : kBlocksTogether, kAhead = kSwiglu ? 1 : 4;  // of the experts' kernel
  const bool experts = p.offsets != nullptr;
  const int64_t slabs = ceil_div(p.n, kOutputs);
  const int64_t groups =
      experts ? std::min<int64_t>(p.experts, p.rows) : ceil_div(p.rows, p.rows <= kTokens ? kTokens : 2 * kTokens);
  const int64_t together = int64_t{experts ? kEach : kBlocksTogether} * processors(context);
  // Most experts have few rows. Three blocks hide each other's ends of items, which two with more loads each do not.
  const auto kernel = experts             ? few_rows_kernel<1, kSwiglu, true, false, kAhead, kEach>
                      : p.rows <= kTokens ? few_rows_kernel<1, kSwiglu, false>
                                          : few_rows_kernel<2, kSwiglu, false>;
  const dim3 grid = blocks(std::min(groups * slabs, together));
  // A multiprocessor divides its memory between cache and shared memory anew only when it is idle. Blocks that start
  // between those of other kernels may find room for one where there is room for two. Experts need all; they cannot
  // read their weights before the choice anyway.
  note_arrivals(context, p, grid);
  p.offsets == nullptr || p.ready != nullptr ? launch_early(context, kernel, grid, dim3(kThreads), 0, p, Norm{})
                                             : launch(context, kernel, grid, dim3(kThreads), 0, p, Norm{});
}

template <class Op>
bool with_swiglu(Context& context, const Op& product, const SwiGlu& activation) {
  if (!suits(product)) return false;
  const std::optional<FewRows> p = problem_with_swiglu(context, product, activation);
  if (p) start<true>(context, *p);
  return p.has_value();
}

}  // namespace

bool few_rows_product(Context& context, const Gemm& op) {
  if (!suits(op)) return wide_rows_product(context, op) || block_rows_product(context, op);
  start<false>(context, problem(context, op));
  return true;
}

bool few_rows_product_of_norm(Context& context, const RmsNorm& norm, const Gemm& op) {
  const std::optional<Norm> task = norm_of_few::norm_of(norm);
  if (!task || !suits(op)) return false;
  const FewRows p = problem(context, op);
  const dim3 grid = blocks(std::min<int64_t>(ceil_div(p.n, kOutputs), int64_t{kBlocksTogether} * processors(context)));
  note_arrivals(context, p, grid);
  launch_early(context, few_rows_kernel<1, false, false, true>, grid, dim3(kThreads), 0, p, *task);
  return true;
}

bool suits_few_rows(const GroupedGemm& op) { return suits(op); }

bool few_rows_product(Context& context, const GroupedGemm& op) {
  if (!suits(op)) return block_rows_product(context, op);
  start<false>(context, problem(context, op));
  return true;
}

bool product_and_swiglu(Context& context, const Gemm& product, const SwiGlu& activation) {
  return with_swiglu(context, product, activation) || block_rows_product_and_swiglu(context, product, activation);
}

bool few_rows_product_and_swiglu(Context& context, const GroupedGemm& product, const SwiGlu& activation) {
  return with_swiglu(context, product, activation) || block_rows_product_and_swiglu(context, product, activation);
}

}  // namespace moe::cuda
