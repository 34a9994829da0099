#pragma once
/// The kernel of few_rows.h for weights in lines. Its instances are compiled in several files.

#include <type_traits>

#include "backend/cuda/cache_hints.cuh"
#include "backend/cuda/early.cuh"
#include "backend/cuda/few_rows_problem.cuh"
#include "backend/cuda/norm_of_few.cuh"
#include "backend/cuda/tensor_core.cuh"
#include "backend/cuda/weight_lines.cuh"

namespace moe::cuda::few_rows {

using norm_of_few::Norm;

constexpr int kOutputs = 16;      ///< rows of the weight that a block takes, of one half with SwiGLU
constexpr int64_t kNarrow = 512;  ///< outputs of a router: weights so few that they may be read several times

/// What a block computes at a time: some rows of an expert's weight with the rows of x that fit its tiles. An item
/// without rows of x does not exist.
struct Item {
  int slab;        ///< of rows of the weight, counted over all experts that have rows
  int output;      ///< the slab's first row of its expert's weight
  int first, end;  ///< the item's rows of x begin at `first`; the expert's end before `end`
  int expert;
};

/// Adds the products of a part of 8 rows above and 8 below with a tile of x. `offset`: what a type's offset gives.
template <class Lines>
__device__ void add_part(float (&sum)[4], const uint4 (&upper)[Lines::kTerms], const uint4 (&lower)[Lines::kTerms],
                         float upper_scale, float lower_scale, const uint4& x, const float (&offset)[4]) {
  float product[4] = {};
#pragma unroll
  for (int term = 0; term < Lines::kTerms; ++term) {
    const uint4 &up = upper[term], &low = lower[term];
    const unsigned first[4] = {up.x, low.x, up.y, low.y}, second[4] = {up.z, low.z, up.w, low.w};
    if constexpr (Lines::kScaled) {
      multiply(product, first, x.x, x.y, *(term == 0 ? &offset : &product));
      multiply_add(product, second, x.z, x.w);
    } else {
      multiply_add(sum, first, x.x, x.y);
      multiply_add(sum, second, x.z, x.w);
    }
  }
  if constexpr (Lines::kScaled) {
    sum[0] = fmaf(upper_scale, product[0], sum[0]), sum[1] = fmaf(upper_scale, product[1], sum[1]);
    sum[2] = fmaf(lower_scale, product[2], sum[2]), sum[3] = fmaf(lower_scale, product[3], sum[3]);
  }
}

/// The warps of a block share the reduced dimension: warp w takes lines w, w + kWarps, ... The weights are the tensor
/// cores' rows and the tokens their columns. A lane has eight numbers of each part of a line; x is read in the same
/// order, so no element has to move. The sum over a part is multiplied by the part's scale. A block takes item after
/// item, and a lane asks for weights kAhead lines before it needs them, those of the next item too. The warps' sums are
/// added in order. `kWithNorm`: each block makes the rows of x, the result of `norm`, for itself.
template <class Lines, int kTokenTiles, bool kSwiglu, bool kGrouped, bool kWithNorm, int kWarps, int kAhead,
          int kTogether>
__global__ void __launch_bounds__(kWarps* kWarp, kTogether)
    few_rows_kernel(const __grid_constant__ FewRows p, const __grid_constant__ norm_of_few::Norm norm) {
  constexpr int kThreads = kWarps * kWarp;
  static_assert(!kWithNorm || kThreads == norm_of_few::kThreads);
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
  const int lines = (p.k + Lines::kLine - 1) / Lines::kLine;
  const int64_t row_bytes = Lines::bytes(p.w_step);
  const int rounds = (lines + kWarps * kAhead - 1) / (kWarps * kAhead) * kAhead;

  const auto item_at = [&](int slab) {
    const int place = static_cast<int>(static_cast<unsigned>(slab) / static_cast<unsigned>(slabs));
    Item item{slab, (slab - place * slabs) * kOutputs, 0, 0, 0};
    if constexpr (!kGrouped) {
      item.first = place * kTokenTiles * kTokens, item.end = min(p.rows, item.first + kTokenTiles * kTokens);
    } else if (place < active.count) {
      item.first = active.begin[place], item.end = active.end[place];
      item.expert = active.expert[place];
    }
    return item;
  };
  const auto next_of = [&](Item item) {
    item.first += kTokenTiles * kTokens;
    return item.first < item.end ? item : item_at(item.slab + static_cast<int>(gridDim.x));
  };

  // A row of the weight that does not exist is another one that does: nobody stores what comes from it.
  const uint64_t policy = load_policy(p.n > kNarrow);
  typename Lines::Held held[kAhead][kHalves][2];  // [line][half][rows 0-7, 8-15]
  const uint8_t* w[2] = {};                       // the two rows of the first half that this lane loads of
  const auto load_from = [&](const Item& item) {
    const auto* const from = static_cast<const uint8_t*>(p.w) + (kGrouped ? item.expert * Lines::bytes(p.w_expert) : 0);
#pragma unroll
    for (int rows = 0; rows < 2; ++rows) {
      w[rows] = item.first < item.end ? from + min(item.output + group + 8 * rows, p.n - 1) * row_bytes : nullptr;
    }
  };
  const auto load = [&](int round, int place) {
    const int line = round * kWarps + warp, left = p.k - line * Lines::kLine - chunk * lines::kOfLane;
    if (w[0] == nullptr || (Lines::kScaled && line >= lines)) return;
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
#pragma unroll
      for (int rows = 0; rows < 2; ++rows) {
        Lines::load(held[place][half][rows], w[rows] + half * p.n * row_bytes + line * Lines::kBytes, chunk, left,
                    policy);
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
      // Rows that do not exist: reading another one costs fewer registers, which types with scales need.
      const int row = item.first + j * kTokens + group, near = min(row, item.end - 1);
      x[j] = Lines::kScaled || row < item.end
                 ? from_x + static_cast<int64_t>(kGrouped && p.x_rows != nullptr ? p.x_rows[near] : near) * x_step +
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
        const int line = (round + a) * kWarps + warp;
        if (!Lines::kScaled || line < lines) {
          uint4 tokens[kTokenTiles][Lines::kParts];
#pragma unroll
          for (int j = 0; j < kTokenTiles; ++j) {
#pragma unroll
            for (int part = 0; part < Lines::kParts; ++part) {
              const int column = line * Lines::kLine + part * lines::kPart;
              const bool inside = Lines::kScaled || column + chunk * kChunk < p.k;
              const bool exists = Lines::kScaled || x[j] != nullptr;
              tokens[j][part] = exists && inside ? *reinterpret_cast<const uint4*>(x[j] + column) : uint4{};
            }
          }
#pragma unroll
          for (int part = 0; part < Lines::kParts; ++part) {
            float offset[kTokenTiles][4] = {};
            if constexpr (Lines::kOffset != 0) {
              constexpr unsigned kAll[4] = {Lines::kOffset, Lines::kOffset, Lines::kOffset, Lines::kOffset};
#pragma unroll
              for (int j = 0; j < kTokenTiles; ++j) {
                const uint4& all = tokens[j][part];
                multiply(offset[j], kAll, all.x, all.y, offset[j]);
                multiply_add(offset[j], kAll, all.z, all.w);
              }
            }
#pragma unroll
            for (int half = 0; half < kHalves; ++half) {
              const auto &top = held[a][half][0], &bottom = held[a][half][1];
              uint4 upper[Lines::kTerms], lower[Lines::kTerms];
#pragma unroll
              for (int term = 0; term < Lines::kTerms; ++term) {
                upper[term] = Lines::term(top, part, term), lower[term] = Lines::term(bottom, part, term);
              }
#pragma unroll
              for (int j = 0; j < kTokenTiles; ++j) {
                if (item.first + j * kTokens >= item.end) continue;
                add_part<Lines>(sum[half][j], upper, lower, Lines::scale(top, part), Lines::scale(bottom, part),
                                tokens[j][part], offset[j]);
              }
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
      const int row = item.first + i / kOutputs, output = item.output + i % kOutputs;
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

/// How a block reads: warps that share an item, lines of a warp on their way, and blocks on a multiprocessor.
struct Reading {
  int warps, ahead, together;
};
/// Measured on an H200. Most experts have few rows: many small blocks hide each other's ends of items, which few blocks
/// with more loads each do not.
template <class Lines, bool kSwiglu>
struct Readings {
  static constexpr Reading kOne{kWarps, kSwiglu ? 2 : 4, 2}, kExperts{kWarps, kSwiglu ? 1 : 4, kSwiglu ? 3 : 2};
};
template <bool kSwiglu>
struct Readings<lines::Q8_0x4, kSwiglu> {
  static constexpr Reading kOne{kWarps, kSwiglu ? 1 : 2, 2}, kExperts{4, kSwiglu ? 1 : 3, 4};
};
template <bool kSwiglu>
struct Readings<lines::Q4_0x4, kSwiglu> {
  static constexpr Reading kOne{kWarps, 2, 2}, kExperts{4, kSwiglu ? 2 : 3, 4};
};

/// Each block takes its part of so many items.
template <class Lines, int kTokenTiles, bool kSwiglu, bool kGrouped, bool kWithNorm, int kWarps, int kAhead,
          int kTogether>
void start_kernel(const Context& context, const FewRows& p, const Norm& norm, int64_t items) {
  const dim3 grid = blocks(std::min(items, int64_t{kTogether} * processors(context))), threads(kWarps * kWarp);
  const auto kernel = few_rows_kernel<Lines, kTokenTiles, kSwiglu, kGrouped, kWithNorm, kWarps, kAhead, kTogether>;
  note_arrivals(context, p, grid);
  // A multiprocessor divides its memory between cache and shared memory anew only when it is idle. A kernel that starts
  // early keeps the division of the one before it, so fewer of its blocks may fit. The kernel of the experts needs all
  // its blocks, and cannot read weights before the choice of experts. It starts early only if a flag tells of the
  // choice.
  !kGrouped || p.ready != nullptr ? launch_early(context, kernel, grid, threads, 0, p, norm)
                                  : launch(context, kernel, grid, threads, 0, p, norm);
}

template <class Lines, bool kSwiglu>
void start_lines(const Context& context, const FewRows& p) {
  constexpr Reading one = Readings<Lines, kSwiglu>::kOne, experts = Readings<Lines, kSwiglu>::kExperts;
  constexpr int kAheadOfTwo = Lines::kScaled ? 1 : one.ahead;  // two tiles of x leave fewer registers
  const int64_t slabs = ceil_div(p.n, kOutputs);
  if (p.offsets != nullptr) {
    start_kernel<Lines, 1, kSwiglu, true, false, experts.warps, experts.ahead, experts.together>(
        context, p, {}, slabs * std::min<int64_t>(p.experts, p.rows));
  } else if (p.rows <= kTokens) {
    start_kernel<Lines, 1, kSwiglu, false, false, one.warps, one.ahead, one.together>(context, p, {}, slabs);
  } else {
    start_kernel<Lines, 2, kSwiglu, false, false, one.warps, kAheadOfTwo, one.together>(
        context, p, {}, slabs * ceil_div(p.rows, 2 * kTokens));
  }
}

/// Both instances of a type of lines.
template <class Lines>
void start(const Context& context, const FewRows& p, bool with_swiglu) {
  with_swiglu ? start_lines<Lines, true>(context, p) : start_lines<Lines, false>(context, p);
}

/// The product with the result of a norm.
template <class Lines>
void start_with_norm(const Context& context, const FewRows& p, const Norm& norm) {
  constexpr Reading one = Readings<Lines, false>::kOne;
  start_kernel<Lines, 1, false, false, true, one.warps, one.ahead, one.together>(context, p, norm,
                                                                                 ceil_div(p.n, kOutputs));
}

extern template void start<lines::Q8_0x4>(const Context&, const FewRows&, bool);
extern template void start<lines::Q4_0x4>(const Context&, const FewRows&, bool);
extern template void start_with_norm<lines::Q8_0x4>(const Context&, const FewRows&, const Norm&);
extern template void start_with_norm<lines::Q4_0x4>(const Context&, const FewRows&, const Norm&);

}  // namespace moe::cuda::few_rows
