#pragma once
/// Grouped products of bf16 operands on Hopper's tensor cores: tiles of 128 x 256, four stages of shared memory. A block has
/// one warpgroup that loads and two that multiply, 64 rows each; it takes tile after tile, so that loading runs ahead of
/// the end of the tile before. Operands come by the bulk copy engine (TMA) where it can take them, which leaves the load
/// units free; gathered rows by cp.async.

#include "backend/cuda/hopper_store.cuh"
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
// Registers of a loading and a multiplying thread; one of the first and two of the second have the 3 x 168 that the
// compiler gives a kernel of 384 threads.
constexpr int kLoadRegisters = 120, kMultiplyRegisters = 192;
constexpr size_t kGroupBytes = 1024;  ///< alignment of the swizzle's pattern
constexpr size_t kSharedBytes = kStages * kStageElements * sizeof(__nv_bfloat16) + kGroupBytes;

/// The loading threads' view of one operand: `kOuter` rows (of a) or columns (of b) by kDepth. A thread copies chunks of one
/// number, of rows that are kRowsApart apart. One warp issues an instruction every few cycles, so that the usual case, a tile
/// inside the operand, must need few: an address and a copy per chunk.
template <int kOuter, bool reduced_rows>
struct Loader {
  static constexpr int kRowChunks = (reduced_rows ? kOuter : kDepth) / kChunk;
  static constexpr int kRowsApart = kGroup / kRowChunks;
  static constexpr int kCopies = kOuter * kDepth / kChunk / kGroup;

  const char* base = nullptr;
  int step = 0;  ///< bytes from stored row to stored row
  const int* rows = nullptr;
  int64_t outer_begin = 0, outer_end = 0;
  int picked[kCopies] = {};  ///< stored rows of this pass (reduced_rows) or of all passes; -1 behind the end
  int coming[kCopies] = {};  ///< reduced_rows: of the next pass, so that nobody waits for an index

  __device__ static int thread() { return static_cast<int>(threadIdx.x) % kGroup; }
  __device__ static int row() { return thread() / kRowChunks; }
  __device__ static int chunk() { return thread() % kRowChunks; }

  /// Where this thread's copy i lies, in bytes: descriptor() in wgmma.cuh says how.
  __device__ static unsigned place(int i) {
    const int stored_row = row() + i * kRowsApart;
    const int block = reduced_rows ? chunk() / 8 * kDepth * 64 : 0;  // of 64 elements along the stored row
    return static_cast<unsigned>(block + stored_row * 64 + ((chunk() % 8) ^ (stored_row & 7)) * kChunk) *
           static_cast<unsigned>(sizeof(__nv_bfloat16));
  }

  __device__ void aim(const Operand& x, int64_t begin, int64_t end) {
    base = static_cast<const char*>(x.data);
    step = static_cast<int>(x.step) * static_cast<int>(sizeof(__nv_bfloat16));
    rows = x.rows;
    outer_begin = begin;
    outer_end = end;
    if constexpr (!reduced_rows) pick(begin, end, picked);
  }

  __device__ void pick(int64_t first, int64_t end, int (&result)[kCopies]) const {
    if (rows != nullptr && first + (reduced_rows ? kDepth : kOuter) <= end) {
      const int* const mine = rows + first + row();
#pragma unroll
      for (int i = 0; i < kCopies; ++i) result[i] = mine[i * kRowsApart];
      return;
    }
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int64_t r = first + row() + i * kRowsApart;
      result[i] = r >= end ? -1 : (rows != nullptr ? rows[r] : static_cast<int>(r));
    }
  }

  /// Before the first pass over [k, k_end), and after each.
  __device__ void begin(int64_t k, int64_t k_end) {
    if constexpr (!reduced_rows) return;
    pick(k, k_end, picked);
    pick(k + kDepth, k_end, coming);
  }
  __device__ void next(int64_t k, int64_t k_end) {
    if constexpr (!reduced_rows) return;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) picked[i] = coming[i];
    pick(k + 2 * kDepth, k_end, coming);
  }

  __device__ void load(const __nv_bfloat16* shared, int64_t k, int64_t k_end) const {
    const int64_t column = (reduced_rows ? outer_begin : k) + chunk() * kChunk;
    const bool inside = column < (reduced_rows ? outer_end : k_end);
    const bool all_rows = reduced_rows ? k + kDepth <= k_end : outer_begin + kOuter <= outer_end;
    const char* const from = base + column * static_cast<int64_t>(sizeof(__nv_bfloat16));
    const unsigned to = shared_address(shared);
    if (inside && all_rows) {
#pragma unroll
      for (int i = 0; i < kCopies; ++i) copy_whole_chunk(to + place(i), from + int64_t{picked[i]} * step);
      return;
    }
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const bool valid = inside && picked[i] >= 0;
      copy_chunk(to + place(i), valid ? from + int64_t{picked[i]} * step : base, valid);
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

/// How the copy engine sees an operand whose rows are not gathered.
struct Bulk {
  CUtensorMap map;
  bool present;
};

/// Starts the bulk copies of `kOuter` rows or columns from `outer` on; one thread does.
template <int kOuter, bool reduced_rows>
__device__ void load_in_bulk(const Bulk& bulk, __nv_bfloat16* shared, uint64_t* barrier, int64_t outer, int64_t k,
                             int expert) {
  if constexpr (reduced_rows) {
    for (int block = 0; block < kOuter / 64; ++block) {
      copy_box(bulk.map, shared + block * 64 * kDepth, barrier, static_cast<int>(outer) + block * 64,
               static_cast<int>(k), expert);
    }
  } else {
    copy_box(bulk.map, shared, barrier, static_cast<int>(k), static_cast<int>(outer), expert);
  }
}

/// The loading warpgroup. Operands come by the copy engine where they can: not gathered rows, and not the last rows of an
/// expert that are reduced over, behind which zeros must stand and not another expert's rows.
template <Grouping grouping, bool a_reduced_rows, bool b_reduced_rows>
__device__ void load_tiles(const TileProblem& p, const Bulk& a_bulk, const Bulk& b_bulk, int tile_count,
                           __nv_bfloat16* memory, uint64_t* full, uint64_t* empty) {
  constexpr unsigned kBytesA = kTileRows * kDepth * sizeof(__nv_bfloat16);
  constexpr unsigned kBytesB = kTileColumns * kDepth * sizeof(__nv_bfloat16);
  Loader<kTileRows, a_reduced_rows> a;
  Loader<kTileColumns, b_reduced_rows> b;
  Ring ring;
  for (int index = static_cast<int>(blockIdx.x); index < tile_count; index += static_cast<int>(gridDim.x)) {
    const Tile t = find_tile<grouping>(p, index, kTileRows, kTileColumns);
    if (t.empty) break;
    fetch_old_sums<kTileRows, kTileColumns, kGroup>(p, t);
    a.aim(t.a, t.m_begin, t.m_end);
    b.aim(t.b, t.n_begin, p.n);
    if (!a_bulk.present) a.begin(t.k_begin, t.k_end);
    if (!b_bulk.present) b.begin(t.k_begin, t.k_end);
    const int weights = grouping == Grouping::rows ? t.expert : 0;
    for (int64_t k = t.k_begin; k < t.k_end; k += kDepth) {
      wait(empty + ring.stage, ring.parity ^ 1);
      __nv_bfloat16* const stage_a = memory + ring.stage * kStageElements;
      __nv_bfloat16* const stage_b = stage_a + kTileRows * kDepth;
      uint64_t* const barrier = full + ring.stage;
      const bool masked = grouping == Grouping::reduction && k + kDepth > t.k_end;
      if (threadIdx.x == 0) {
        const bool bulk_a = a_bulk.present && !masked, bulk_b = b_bulk.present && !masked;
        expect_bytes(barrier, (bulk_a ? kBytesA : 0) + (bulk_b ? kBytesB : 0));
        if (bulk_a) load_in_bulk<kTileRows, a_reduced_rows>(a_bulk, stage_a, barrier, t.m_begin, k, 0);
        if (bulk_b) load_in_bulk<kTileColumns, b_reduced_rows>(b_bulk, stage_b, barrier, t.n_begin, k, weights);
      }
      if (!a_bulk.present) {
        a.load(stage_a, k, t.k_end);
        a.next(k, t.k_end);
      } else if (masked) {
        a.begin(k, t.k_end);
        a.load(stage_a, k, t.k_end);
      }
      if (!b_bulk.present) {
        b.load(stage_b, k, t.k_end);
        b.next(k, t.k_end);
      } else if (masked) {
        b.begin(k, t.k_end);
        b.load(stage_b, k, t.k_end);
      }
      arrive_after_copies(barrier);
      ring.advance();
    }
  }
}

/// Rows `row` and row + 8 of c from a lane's sums, in whole 16-byte chunks. The four lanes of a row hold pairs of columns
/// of 8-column parts; of four parts each lane collects one.
__device__ inline void store_bf16(const TileProblem& p, const Tile& t, int64_t row, const float (&sum)[128]) {
  const int quarter = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    auto* const c = reinterpret_cast<__nv_bfloat16*>(t.c) + (row + 8 * half) * p.c_step;
#pragma unroll
    for (int j = 0; j < kTileColumns / 8; j += 4) {
      unsigned part[4], mine[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const __nv_bfloat162 pair =
            __floats2bfloat162_rn(sum[4 * (j + i) + 2 * half], sum[4 * (j + i) + 2 * half + 1]);
        part[i] = *reinterpret_cast<const unsigned*>(&pair);
      }
      // In round r a lane gives the lane `quarter ^ r` that one's part, and gets its own part's pair of that lane.
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int other = quarter ^ r;
        unsigned given = part[0];
#pragma unroll
        for (int i = 1; i < 4; ++i) given = other == i ? part[i] : given;
        const unsigned got = r == 0 ? given : __shfl_xor_sync(0xffffffffu, given, r);
#pragma unroll
        for (int i = 0; i < 4; ++i) mine[i] = other == i ? got : mine[i];
      }
      const int64_t column = t.n_begin + 8 * (j + quarter);
      if (row + 8 * half < t.m_end && column < p.n) {
        *reinterpret_cast<uint4*>(c + column) = make_uint4(mine[0], mine[1], mine[2], mine[3]);
      }
    }
  }
}

template <Grouping grouping, bool a_reduced_rows, bool b_reduced_rows>
__device__ void multiply_tiles(const TileProblem& p, int tile_count, const __nv_bfloat16* memory, uint64_t* full,
                               uint64_t* empty) {
  const int group = static_cast<int>(threadIdx.x) / kGroup - 1;  // 0 or 1: which 64 rows
  const bool speaks = threadIdx.x % kWarp == 0;  // each warp for what it has read itself
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
    settle(sum);
    if (previous >= 0 && speaks) arrive(empty + previous);
    const int64_t row = t.m_begin + group * 64 + warp * 16 + lane / 4;
    if (p.c_half && p.c_chunked && !p.accumulate && !p.c_transposed) {
      store_bf16(p, t, row, sum);
    } else if (p.c_quads && !p.c_transposed) {
      store_f32<false>(p, t, row - lane / 4, sum);
    } else if (grouping == Grouping::reduction && p.c_quads) {
      store_f32<true>(p, t, row - lane / 4, sum);
    } else {
#pragma unroll
      for (int j = 0; j < kTileColumns / 8; ++j) {
        const int64_t column = t.n_begin + 8 * j + lane % 4 * 2;
        store_pair(p, t, row, column, sum[4 * j], sum[4 * j + 1]);
        store_pair(p, t, row + 8, column, sum[4 * j + 2], sum[4 * j + 3]);
      }
    }
  }
}

template <Grouping grouping, bool a_reduced_rows, bool b_reduced_rows>
__global__ void __launch_bounds__(kThreads, 1)
    kernel(TileProblem p, const __grid_constant__ Bulk a_bulk, const __grid_constant__ Bulk b_bulk, int tile_count) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ unsigned char raw[];
  __shared__ uint64_t full[kStages], empty[kStages];
  auto* const memory =
      reinterpret_cast<__nv_bfloat16*>((reinterpret_cast<uintptr_t>(raw) + kGroupBytes - 1) / kGroupBytes * kGroupBytes);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      init_barrier(full + i, kGroup + 1);  // of every copying thread, and of the one that starts bulk copies
      init_barrier(empty + i, 2 * kGroup / kWarp);
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kGroup) {
    give_registers<kLoadRegisters>();
    load_tiles<grouping, a_reduced_rows, b_reduced_rows>(p, a_bulk, b_bulk, tile_count, memory, full, empty);
  } else {
    take_registers<kMultiplyRegisters>();
    multiply_tiles<grouping, a_reduced_rows, b_reduced_rows>(p, tile_count, memory, full, empty);
  }
#else
  (void)p, (void)a_bulk, (void)b_bulk, (void)tile_count;
#endif
}

}  // namespace moe::cuda::hopper
