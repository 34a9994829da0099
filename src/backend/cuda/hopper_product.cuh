#pragma once
/// Grouped products of bf16 operands on Hopper's tensor cores: tiles of 128 x 256, four stages of shared memory. A block has
/// one warpgroup that loads and two that multiply, 64 rows each; it takes tile after tile, so that loading runs ahead of
/// the end of the tile before. cp.async loads, because rows may be gathered and an expert's last rows must be masked.

#include "backend/cuda/tensor_core.cuh"
#include "backend/cuda/tile_problem.cuh"
#include "backend/cuda/wgmma.cuh"

namespace moe::cuda::hopper {

constexpr int kTileRows = 128;
constexpr int kTileColumns = 256;
constexpr int kDepth = 64;
constexpr int kStages = 4;
constexpr int kGroup = 128;
constexpr int kThreads = 3 * kGroup;
constexpr int kStageElements = (kTileRows + kTileColumns) * kDepth;
constexpr size_t kGroupBytes = 1024;  ///< alignment of the swizzle's pattern
constexpr size_t kSharedBytes = kStages * kStageElements * sizeof(__nv_bfloat16) + kGroupBytes;

/// The loading threads' view of one operand: `kOuter` rows (of a) or columns (of b) by kDepth.
template <int kOuter, bool reduced_rows>
struct Loader {
  static constexpr int kRowChunks = (reduced_rows ? kOuter : kDepth) / kChunk;
  static constexpr int kRowsApart = kGroup / kRowChunks;
  static constexpr int kCopies = kOuter * kDepth / kChunk / kGroup;

  const __nv_bfloat16* base = nullptr;
  int64_t step = 0;
  const int* rows = nullptr;
  int64_t outer_begin = 0, outer_end = 0;
  int picked[kCopies] = {};  ///< stored rows of the next pass (reduced_rows) or of all passes

  __device__ static int thread() { return static_cast<int>(threadIdx.x) % kGroup; }
  __device__ static int row() { return thread() / kRowChunks; }
  __device__ static int chunk() { return thread() % kRowChunks; }

  /// Where the chunk of a stored row lies: descriptor() in wgmma.cuh says how.
  __device__ static int place(int stored_row, int c) {
    const int block = c / 8 * kDepth * 64;  // of 64 elements along the stored row
    return (reduced_rows ? block : 0) + stored_row * 64 + ((c % 8) ^ (stored_row & 7)) * kChunk;
  }

  __device__ void aim(const Operand& x, int64_t begin, int64_t end) {
    base = static_cast<const __nv_bfloat16*>(x.data);
    step = x.step;
    rows = x.rows;
    outer_begin = begin;
    outer_end = end;
    if constexpr (!reduced_rows) pick(begin, end);
  }

  __device__ void pick(int64_t first, int64_t end) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int64_t r = first + row() + i * kRowsApart;
      picked[i] = r >= end ? -1 : (rows != nullptr ? rows[r] : static_cast<int>(r));
    }
  }

  __device__ void load(__nv_bfloat16* shared, int64_t k, int64_t k_end) const {
    const int64_t column = (reduced_rows ? outer_begin : k) + chunk() * kChunk;
    const bool inside = column < (reduced_rows ? outer_end : k_end);
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const bool valid = inside && picked[i] >= 0;
      copy_chunk(shared + place(row() + i * kRowsApart, chunk()), base + (valid ? picked[i] * step + column : 0), valid);
    }
  }
};

/// Which stage a pass uses and how often the ring has gone round, counted over all of a block's tiles.
struct Ring {
  int stage = 0;
  unsigned parity = 0;
  __device__ void advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

template <Grouping grouping, bool a_reduced_rows, bool b_reduced_rows>
__device__ void load_tiles(const TileProblem& p, int tile_count, __nv_bfloat16* memory, uint64_t* full,
                           uint64_t* empty) {
  Loader<kTileRows, a_reduced_rows> a;
  Loader<kTileColumns, b_reduced_rows> b;
  Ring ring;
  for (int index = static_cast<int>(blockIdx.x); index < tile_count; index += static_cast<int>(gridDim.x)) {
    const Tile t = find_tile<grouping>(p, index, kTileRows, kTileColumns);
    if (t.empty) break;
    a.aim(t.a, t.m_begin, t.m_end);
    b.aim(t.b, t.n_begin, p.n);
    const auto pick = [&](int64_t k) {
      if constexpr (a_reduced_rows) a.pick(k, t.k_end);
      if constexpr (b_reduced_rows) b.pick(k, t.k_end);
    };
    pick(t.k_begin);
    for (int64_t k = t.k_begin; k < t.k_end; k += kDepth) {
      wait(empty + ring.stage, ring.parity ^ 1);
      __nv_bfloat16* const stage = memory + ring.stage * kStageElements;
      a.load(stage, k, t.k_end);
      b.load(stage + kTileRows * kDepth, k, t.k_end);
      arrive_after_copies(full + ring.stage);
      pick(k + kDepth);  // early: the next load needs them
      ring.advance();
    }
  }
}

template <Grouping grouping, bool a_reduced_rows, bool b_reduced_rows>
__device__ void multiply_tiles(const TileProblem& p, int tile_count, const __nv_bfloat16* memory, uint64_t* full,
                               uint64_t* empty) {
  const int group = static_cast<int>(threadIdx.x) / kGroup - 1;  // 0 or 1: which 64 rows
  const bool speaks = threadIdx.x % kGroup == 0;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) % kGroup / kWarp;
  constexpr unsigned kRowsOf8 = 1024, kBlockBytes = kDepth * 64 * sizeof(__nv_bfloat16);
  // From one 16 of the reduced dimension to the next, in units of 16 bytes.
  constexpr uint64_t kStepAlong = 32 >> 4, kStepAcross = 2 * kRowsOf8 >> 4;
  Ring ring;
  for (int index = static_cast<int>(blockIdx.x); index < tile_count; index += static_cast<int>(gridDim.x)) {
    const Tile t = find_tile<grouping>(p, index, kTileRows, kTileColumns);
    if (t.empty) break;
    float sum[128];
#pragma unroll
    for (float& value : sum) value = 0;
    int previous = -1;
    for (int64_t k = t.k_begin; k < t.k_end; k += kDepth) {
      wait(full + ring.stage, ring.parity);
      show_to_tensor_cores();
      const __nv_bfloat16* const stage = memory + ring.stage * kStageElements;
      const uint64_t a = descriptor(stage + group * 64 * kDepth, kBlockBytes, kRowsOf8);
      const uint64_t b = descriptor(stage + kTileRows * kDepth, kBlockBytes, kRowsOf8);
      begin_products();
#pragma unroll
      for (int i = 0; i < kDepth / 16; ++i) {
        multiply_add<a_reduced_rows, b_reduced_rows>(sum, a + i * (a_reduced_rows ? kStepAcross : kStepAlong),
                                                     b + i * (b_reduced_rows ? kStepAcross : kStepAlong));
      }
      commit_products();
      wait_for_products<1>();  // the pass before has been read: its stage is free
      if (previous >= 0 && speaks) arrive(empty + previous);
      previous = ring.stage;
      ring.advance();
    }
    wait_for_products<0>();
    if (previous >= 0 && speaks) arrive(empty + previous);
    const int64_t row = t.m_begin + group * 64 + warp * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < kTileColumns / 8; ++j) {
      const int64_t column = t.n_begin + 8 * j + lane % 4 * 2;
      store_pair(p, t, row, column, sum[4 * j], sum[4 * j + 1]);
      store_pair(p, t, row + 8, column, sum[4 * j + 2], sum[4 * j + 3]);
    }
  }
}

template <Grouping grouping, bool a_reduced_rows, bool b_reduced_rows>
__global__ void __launch_bounds__(kThreads, 1) kernel(TileProblem p, int tile_count) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ unsigned char raw[];
  __shared__ uint64_t full[kStages], empty[kStages];
  auto* const memory =
      reinterpret_cast<__nv_bfloat16*>((reinterpret_cast<uintptr_t>(raw) + kGroupBytes - 1) / kGroupBytes * kGroupBytes);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      init_barrier(full + i, kGroup);
      init_barrier(empty + i, 2);
    }
  }
  __syncthreads();
  if (threadIdx.x < kGroup) {
    load_tiles<grouping, a_reduced_rows, b_reduced_rows>(p, tile_count, memory, full, empty);
  } else {
    multiply_tiles<grouping, a_reduced_rows, b_reduced_rows>(p, tile_count, memory, full, empty);
  }
#else
  (void)p, (void)tile_count;
#endif
}

}  // namespace moe::cuda::hopper
