#pragma once
/// Code that the attention kernels for Hopper share. A block has one warp that loads (in a warpgroup of its own) and
/// two warpgroups that multiply. It works on 128 rows of a head at a time, queries or keys, 64 for each warpgroup.
/// Tiles of the other side stream through a ring of stages. Blocks take their rows from a counter, so that none waits
/// for the longest one. The bits of a row do not depend on the block that computes it.
///
/// A tile of r rows by kSize elements is stored in shared memory as blocks of r lines of 64 elements, in the 128-byte
/// swizzle.

#include <algorithm>

#include "backend/cuda/attention.h"
#include "backend/cuda/kernel.cuh"
#include "backend/cuda/tensor_core.cuh"
#include "backend/cuda/wgmma_attention.cuh"

namespace moe::cuda::hopper_tiles {

using namespace hopper;  // NOLINT: the instructions

constexpr int kOwned = 128;  ///< rows of a block
constexpr int kHalf = 64;    ///< rows of a warpgroup
constexpr int kWarpgroup = 128;
constexpr int kBlockThreads = 3 * kWarpgroup;
// Arrivals of the multiplying threads at barriers: one lane of each warp arrives for what the tensor cores have read
// for the warp, and every thread for what it has read itself.
constexpr unsigned kEveryone = 2 * kWarpgroup, kSpeakers = kEveryone / kWarp;
constexpr size_t kPatternBytes = 1024;  ///< alignment of the swizzle's pattern
constexpr float kLog2e = 1.4426950408889634f;
// Registers of the loading and of the multiplying threads: one and two shares of 3 x 168.
constexpr int kLoadRegisters = 24, kMultiplyRegisters = 240;
struct Registers {
  int loading, multiplying;
};
// Barriers of warps (`meet`): one for each multiplying warpgroup, and one for its turn.
constexpr int kGroupBarrier = 1, kTurnBarrier = 3;

using Element = __nv_bfloat16;

/// The rows that a block owns. The loading warp tells the others.
struct Work {
  int head;    ///< the head of the queries, or of the keys and values; -1: no more work
  int first;   ///< the first row
  int begin;   ///< first row of the stream of the other side; the stream ends, or begins, at the owned rows
  int passes;  ///< number of its tiles (of one query head)
};

/// The data that every kernel knows.
struct Problem {
  const int* segment_start;
  int tokens, heads, group;  ///< query heads, and of each key head
  float scale;
  int* taken;  ///< number of pieces of work taken so far; 0 at the start
  int pieces;
};

/// A position in a ring of stages.
template <int stages>
struct Ring {
  int stage = 0;
  unsigned parity = 0;
  __device__ void advance() {
    if (++stage < stages) return;
    stage = 0;
    parity ^= 1;
  }
};

__device__ inline int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
/// The first lane's value. The compiler then knows that the whole warp has the same value, and keeps it in separate
/// registers.
__device__ inline int agreed(int value) { return __shfl_sync(0xffffffffu, value, 0); }
__device__ inline Work agreed(const Work& work) {
  return {agreed(work.head), agreed(work.first), agreed(work.begin), agreed(work.passes)};
}
/// The number of the warp in its warpgroup (0 to 3).
__device__ inline int warp() { return agreed(static_cast<int>(threadIdx.x) % kWarpgroup / kWarp); }
/// The number of the multiplying warpgroup (0 or 1).
__device__ inline int group() { return agreed(static_cast<int>(threadIdx.x) / kWarpgroup - 1); }

/// Arrives for the whole warp, after a wait for its products.
__device__ inline void speak(uint64_t* barrier) {
  if (lane() == 0) arrive(barrier);
}

/// The number of the next piece of work, or -1. For a whole warp.
__device__ inline int take(const Problem& p) {
  int piece = 0;
  if (lane() == 0) piece = atomicAdd(p.taken, 1);
  piece = __shfl_sync(0xffffffffu, piece, 0);
  return piece < p.pieces ? piece : -1;
}

/// The first key that one of the block's queries from `first` on sees; INT32_MAX if all are padding. For a whole warp.
__device__ inline int first_key(const Problem& p, int first) {
  int start = INT32_MAX;
#pragma unroll
  for (int i = 0; i < kOwned / kWarp; ++i) {
    const int t = first + i * kWarp + lane();
    const int mine = t < p.tokens ? p.segment_start[t] : -1;
    if (mine >= 0) start = min(start, mine);
  }
  return __reduce_min_sync(0xffffffffu, start);
}

/// Loads `rows` rows of a head from `row` on.
template <int kSize, int rows>
__device__ void load(const CUtensorMap& map, Element* shared, uint64_t* barrier, int head, int row) {
#pragma unroll
  for (int block = 0; block < kSize / 64; ++block) {
    copy_box(map, shared + block * rows * 64, barrier, head * kSize + block * 64, row, 0);
  }
}

/// Descriptors of a tile of `rows` rows, beginning at one of them: reduced along its lines, and reduced over its rows.
template <int rows>
__device__ uint64_t describe(const Element* tile) {
  return descriptor(tile, rows * 128, 1024);
}
/// The offset of the k-th 16 of the reduced dimension.
template <int rows>
__device__ constexpr uint64_t along(int k) {
  return static_cast<uint64_t>((k / 4 * rows * 128 + k % 4 * 32) >> 4);
}
__device__ constexpr uint64_t across(int k) { return static_cast<uint64_t>((k * 16 * 128) >> 4); }

/// scores (64 x columns) = a (64 rows of a tile of a_rows) b (a tile of `columns` rows)^T.
template <int kSize, int a_rows, int count>
__device__ void row_products(float (&scores)[count], uint64_t a, uint64_t b) {
#pragma unroll
  for (int k = 0; k < kSize / 16; ++k) {
    multiply<0>(scores, a + along<a_rows>(k), b + along<2 * count>(k), k > 0);
  }
}
/// The same with a's rows in registers.
template <int kSize, int count>
__device__ void row_products(float (&scores)[count], const unsigned (&a)[kSize / 16][4], uint64_t b) {
#pragma unroll
  for (int k = 0; k < kSize / 16; ++k) multiply<0>(scores, a[k], b + along<2 * count>(k), k > 0);
}
/// sum (64 x kSize) += weights (64 x 16 steps) (a tile of 16 steps rows).
template <int count, int steps>
__device__ void weighted_rows(float (&sum)[count], const unsigned (&weights)[steps][4], uint64_t tile) {
#pragma unroll
  for (int k = 0; k < steps; ++k) multiply<1>(sum, weights[k], tile + across(k), true);
}

/// 2^x, with an error of two units in the last place; the smallest results are 0.
__device__ inline float exp2_fast(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(result) : "f"(x));
  return result;
}
__device__ inline unsigned pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&pair);
}
/// Sums, rounded to bf16, as the first operand of a product.
template <int steps>
__device__ void pack(const float (&from)[8 * steps], unsigned (&to)[steps][4]) {
#pragma unroll
  for (int k = 0; k < steps; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) to[k][i] = pack(from[8 * k + 2 * i], from[8 * k + 2 * i + 1]);
  }
}

/// Which columns [low, low + span] the lane's two rows see, and which columns every row of the warp sees.
struct Seen {
  int low[2];
  unsigned span[2];
  int all_low, all_high;

  /// first > last: none.
  __device__ void set(int half, int first, int last) {
    const bool some = first <= last;
    low[half] = some ? first : INT32_MIN;
    span[half] = some ? static_cast<unsigned>(last - first) : 0;
    const int most = some ? first : INT32_MAX, least = some ? last : INT32_MIN;
    all_low = half == 0 ? most : max(all_low, most);
    all_high = half == 0 ? least : min(all_high, least);
  }
  __device__ void agree() {
    all_low = agreed(__reduce_max_sync(0xffffffffu, all_low));
    all_high = agreed(__reduce_min_sync(0xffffffffu, all_high));
  }
  __device__ bool hides_all(int half) const { return low[half] == INT32_MIN; }
  /// Sets the scores of columns from `column` on that a row does not see to -inf. Most tiles are seen as a whole.
  template <int count>
  __device__ void hide(float (&scores)[count], int column) const {
    if (column >= all_low && column + 2 * count - 1 <= all_high) return;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto from = static_cast<unsigned>(column + lane() % 4 * 2) - static_cast<unsigned>(low[half]);
#pragma unroll
      for (int j = 0; j < count / 4; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (from + static_cast<unsigned>(8 * j + i) > span[half]) scores[4 * j + 2 * half + i] = -INFINITY;
        }
      }
    }
  }
};

/// Multiplies the warpgroup's 64 rows by `factor` (of the lane's row and of the one 8 below), rounds them to bf16 and
/// stores them through `staging` (which has room for them) at `row` of the head. `others`: the number of later stores
/// that use other room.
template <int kSize, int others>
__device__ void store_rows(const CUtensorMap& map, Element* staging, const float (&sum)[kSize / 2], float factor,
                           float factor_below, int head, int row) {
  const bool speaks = threadIdx.x % kWarpgroup == 0;
  const int group = hopper_tiles::group(), warp = hopper_tiles::warp();
  if (speaks) wait_until_stores_have_read<others>();
  meet(kGroupBarrier + group, kWarpgroup);
  const int part = lane() / 8, line = 16 * warp + part % 2 * 8 + lane() % 8;
#pragma unroll
  for (int j = 0; j < kSize / 8; j += 2) {
    const int chunk = j + part / 2;
    Element* const to = staging + chunk / 8 * kHalf * 64 + line * 64 + ((chunk % 8) ^ (line & 7)) * kChunk;
    store_matrices(to, pack(sum[4 * j] * factor, sum[4 * j + 1] * factor),
                   pack(sum[4 * j + 2] * factor_below, sum[4 * j + 3] * factor_below),
                   pack(sum[4 * j + 4] * factor, sum[4 * j + 5] * factor),
                   pack(sum[4 * j + 6] * factor_below, sum[4 * j + 7] * factor_below));
  }
  show_to_tensor_cores();  // and visible to the copy engine
  meet(kGroupBarrier + group, kWarpgroup);
  if (!speaks) return;
#pragma unroll
  for (int block = 0; block < kSize / 64; ++block) {
    store_box(map, staging + block * kHalf * 64, head * kSize + block * 64, row, 0);
  }
  commit_stores();
}

/// The first operand of products: the k-th 16 elements of the warp's 16 rows, in a warpgroup's half of a tile of kOwned
/// rows.
template <int kSize>
__device__ void read_rows(const Element* half, int k, unsigned (&out)[4]) {
  const int part = lane() / 8, line = 16 * warp() + part % 2 * 8 + lane() % 8, chunk = 2 * k + part / 2;
  load_matrices(half + chunk / 8 * kOwned * 64 + line * 64 + ((chunk % 8) ^ (line & 7)) * kChunk, out);
}

/// A kernel's problem. `seen_from`: op.segment_start, or what the kernel needs instead.
inline Problem problem(const AttentionShape& shape, const int* segment_start, int* taken, int64_t pieces) {
  MOE_CHECK(shape.tokens + kOwned <= INT32_MAX && pieces <= INT32_MAX);
  return {.segment_start = segment_start,
          .tokens = static_cast<int>(shape.tokens),
          .heads = shape.heads,
          .group = shape.heads / shape.kv_heads,
          .scale = shape.scale,
          .taken = taken,
          .pieces = static_cast<int>(pieces)};
}

/// `count` counters with the value 0.
inline int* zero_counters(Context& context, Carver& carver, int count) {
  int* const counters = carver.take<int>(count);
  check(cudaMemsetAsync(counters, 0, static_cast<size_t>(count) * sizeof(int), context.stream), "clearing counters");
  return counters;
}

/// Starts as many blocks as can run at once. Each of them takes piece after piece.
template <class... Parameters, class... Args>
void start(const Context& context, void (*kernel)(Parameters...), int64_t pieces, size_t shared_bytes,
           const Args&... args) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
        "asking for shared memory");
  launch(context, kernel, blocks(std::min<int64_t>(pieces, processors(context))), kBlockThreads, shared_bytes, args...);
}

}  // namespace moe::cuda::hopper_tiles
