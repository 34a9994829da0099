#pragma once
/// Grouped products of bf16 operands on Hopper's tensor cores: tiles of 128 rows by one of kWidths columns, a ring of
/// stages in shared memory. A block has one warpgroup that loads and two that multiply, 64 rows each; it takes tile
/// after tile, so that loading runs ahead of the end of the tile before. Blocks may run in pairs, on neighbouring tiles
/// of rows: each loads half of their part of b for both, which halves what is read of it from the L2 cache, the bound
/// of single blocks. A tile may end in SwiGLU.

#include "backend/cuda/early.cuh"
#include "backend/cuda/hopper_activation.cuh"
#include "backend/cuda/wgmma_widths.cuh"

namespace moe::cuda::hopper {

// Registers of a loading and a multiplying thread; one of the first and two of the second have the 3 x 168 that the
// compiler gives a kernel of 384 threads.
constexpr int kLoadRegisters = 120, kMultiplyRegisters = 192;

struct Memory {
  __nv_bfloat16* stages;
  __nv_bfloat16* results;  ///< kStoreBytes
  int* window;
  uint64_t *full, *empty;
};

/// Columns of c that a tile makes: of a gate and its up projection, which c names once, a half each.
template <int columns, Ending ending>
constexpr int kTileColumns = ending == Ending::swiglu ? columns / 2 : columns;

/// This block's tiles, one of those that each turn names for the blocks of a pair; outside c for a last one alone. What
/// a table says of the next tile is asked for when the one before begins. Each thread of a block has its own.
template <Grouping grouping, int columns>
class MyTiles {
 public:
  __device__ MyTiles(const TileProblem& p, int count) : p_(p), count_(count) { look_ahead(); }
  __device__ bool next(Tile& t) {
    if (turn_.tile >= count_) return false;
    t = find_tile<grouping>(p_, turn_.tile, kTileRows * cluster_size(), columns, found_);
    if (t.empty) return false;
    t.m_begin += cluster_rank() * kTileRows;
    turn_.advance();
    look_ahead();
    return true;
  }

 private:
  __device__ void look_ahead() {
    if constexpr (grouping == Grouping::rows) {
      if (turn_.tile < count_) found_ = look_up_tile(p_, turn_.tile, columns);
    }
  }

  const TileProblem& p_;
  int count_;
  Turns turn_;
  int4 found_ = {};
};

/// Whether threads copy parts of the operands: else one warp's first thread starts all of the copy engine's work.
template <Grouping grouping>
__device__ bool threads_copy(const Bulk& a, const Bulk& b) {
  return grouping == Grouping::reduction || !a.present || !b.present;
}

/// Where a tile's passes end along the sum. The first product's passes come first, then those of the added product.
template <Grouping grouping>
__device__ int64_t passes_end(const TileProblem& p, const Tile& t) {
  if (grouping != Grouping::rows || p.k_added == 0) return t.k_end;
  return (t.k_end + kDepth - 1) / kDepth * kDepth + p.k_added;
}

/// The loading warpgroup.
template <Grouping grouping, bool across, int columns, Ending ending>
__device__ void load_tiles(const TileProblem& p, const Bulk& a_bulk, const Bulk& b_bulk, const Added& added,
                           int tile_count, const Memory& m) {
  using T = Tiles<columns, across>;
  constexpr bool kReduction = grouping == Grouping::reduction;
  constexpr unsigned kBytesA = kTileRows * kDepth * sizeof(__nv_bfloat16);
  const bool copying = threads_copy<grouping>(a_bulk, b_bulk);
  if (!copying && threadIdx.x >= kWarp) return;
  const int size = cluster_size(), rank = cluster_rank();
  // Threads that start the copy engine's work: it keeps one that copies too long from its own part.
  const int issuers = kReduction ? kGroup / kWarp : 1;
  GatheredRows by_rows;
  GatheredDepth by_depth;
  Ring<T::kStages> ring;
  Tile t;
  for (MyTiles<grouping, kTileColumns<columns, ending>> tiles(p, tile_count); tiles.next(t);) {
    fetch_old_sums<kTileRows, columns, kGroup>(p, t);
    if (!a_bulk.present) {
      if constexpr (kReduction) {
        by_depth.aim(t.a, t.m_begin, t.m_end);
      } else {
        by_rows.aim(t.a, t.m_begin, t.m_end);
      }
    }
    const int weights = grouping == Grouping::rows ? t.expert : 0;
    int pass = 0;
    for (int64_t k = t.k_begin; k < t.k_end; k += kDepth, ++pass) {
      __nv_bfloat16* const a = m.stages + ring.stage * T::kStageElements;
      __nv_bfloat16* const b = a + kTileRows * kDepth;
      uint64_t* const barrier = m.full + ring.stage;
      // Behind an expert's last row that is reduced over zeros must stand, and not another expert's rows.
      const bool masked = kReduction && k + kDepth > t.k_end;
      const bool bulk_a = a_bulk.present && !masked, bulk_b = b_bulk.present && !masked;
      if constexpr (kReduction) {
        if (!a_bulk.present) by_depth.prepare(m.window, pass, k, t.k_end);
      }
      wait(m.empty + ring.stage, ring.parity ^ 1);
      const int issuer = static_cast<int>(threadIdx.x) / kWarp;
      if (threadIdx.x % kWarp == 0 && issuer < issuers) {
        if (issuer == 0) {
          expect_bytes(barrier, (bulk_a ? kBytesA : 0) + (bulk_b ? bytes_of_b<columns, across>(size) : 0));
          if (bulk_a) load_a_in_bulk<kReduction>(a_bulk, a, barrier, t.m_begin, k);
        }
        if constexpr (ending == Ending::swiglu) {
          load_gate_and_up<columns>(b_bulk, b, barrier, t.n_begin, p.n, k, weights, size, rank);
        } else if (bulk_b) {
          load_b_in_bulk<columns, across>(b_bulk, b, barrier, t.n_begin, k, weights, size, rank, issuer, issuers);
        }
      }
      if constexpr (kReduction) {
        if (!a_bulk.present) {
          by_depth.load(a, m.window, pass, masked);
        } else if (masked) {
          load_depth(t.a, a, t.m_begin, t.m_end, kTileRows, k, t.k_end);
        }
        if (!bulk_b) load_depth(t.b, b, t.n_begin, p.n, T::kStored, k, t.k_end);
      } else {
        if (!a_bulk.present) by_rows.load(a, k, t.k_end);
      }
      if (copying) arrive_after_copies(barrier);
      ring.advance();
    }
    if constexpr (grouping == Grouping::rows) {
      for (int64_t k = 0; k < p.k_added; k += kDepth) {
        __nv_bfloat16* const a = m.stages + ring.stage * T::kStageElements;
        __nv_bfloat16* const b = a + kTileRows * kDepth;
        uint64_t* const barrier = m.full + ring.stage;
        wait(m.empty + ring.stage, ring.parity ^ 1);
        if (threadIdx.x == 0) {
          expect_bytes(barrier, kBytesA + bytes_of_b<columns, across>(size));
          load_a_in_bulk<false>(added.a, a, barrier, t.m_begin, k);
          if constexpr (ending == Ending::swiglu) {
            load_gate_and_up<columns>(added.b, b, barrier, t.n_begin, p.n, k, weights, size, rank);
          } else {
            load_b_in_bulk<columns, across>(added.b, b, barrier, t.n_begin, k, weights, size, rank, 0, 1);
          }
        }
        if (copying) arrive_after_copies(barrier);
        ring.advance();
      }
    }
  }
}

/// Says that this warp has read a stage, to every block that may load into it next.
__device__ inline void release(uint64_t* empty, int size) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (size == 1) {
    if (lane == 0) arrive(empty);
  } else if (lane < size) {
    arrive_at(empty, lane);
  }
}

template <Grouping grouping, int columns, Ending ending>
__device__ void store_tile(const TileProblem& p, const Tile& t, const RowActivation& act, float (&sum)[columns / 2],
                           __nv_bfloat16* shared, double& squares) {
  const int worker = static_cast<int>(threadIdx.x) / kWarp - kGroup / kWarp;  // 0 to 7: 16 rows each
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t row = t.m_begin + worker * 16;
  if constexpr (ending == Ending::swiglu) {
    store_swiglu(p, t, act, row, sum, shared + worker * 16 * 64);
  } else if (p.c_bf16 && p.c_chunked && !p.c_transposed) {
    if (p.accumulate) add_old_bf16(p, t, row, sum, shared + worker * 16 * 64);
    store_bf16(p, t, row, sum, shared + worker * 16 * 64);
  } else if (p.c_quads && !p.c_transposed) {
    store_f32<false>(p, t, row, sum, squares);
  } else if (grouping == Grouping::reduction && p.c_quads) {
    store_f32<true>(p, t, row, sum, squares);
  } else {
#pragma unroll
    for (int j = 0; j < columns / 8; ++j) {
      const int64_t column = t.n_begin + 8 * j + lane % 4 * 2;
      store_pair(p, t, row + lane / 4, column, sum[4 * j], sum[4 * j + 1]);
      store_pair(p, t, row + lane / 4 + 8, column, sum[4 * j + 2], sum[4 * j + 3]);
    }
  }
}

template <Grouping grouping, bool across, int columns, Ending ending>
__device__ void multiply_tiles(const TileProblem& p, const Bulk& a_bulk, const Bulk& b_bulk, int tile_count,
                               const RowActivation& act, const Memory& m) {
  using T = Tiles<columns, across>;
  constexpr bool kAcrossA = grouping == Grouping::reduction;
  constexpr unsigned kRowsOf8 = 1024, kBlockBytes = kDepth * 64 * sizeof(__nv_bfloat16);
  // From one 16 of the reduced dimension to the next, in units of 16 bytes.
  constexpr uint64_t kStepAlong = 32 >> 4, kStepAcross = 2 * kRowsOf8 >> 4;
  const int group = static_cast<int>(threadIdx.x) / kGroup - 1;  // 0 or 1: which 64 rows
  const int size = cluster_size();
  const bool copied = !a_bulk.present || !b_bulk.present;
  // The second warpgroup begins a pass late and stays behind, so that each one's end of a tile falls into the other's
  // products.
  bool leads = group == 0;
  if (!leads) wait_at(kSkewBarrier, 2 * kGroup);
  Ring<T::kStages> ring;
  Tile t;
  double squares = 0;
  for (MyTiles<grouping, kTileColumns<columns, ending>> tiles(p, tile_count); tiles.next(t);) {
    float sum[columns / 2];
#pragma unroll
    for (float& value : sum) value = 0;
    int previous = -1;
    const int64_t end = passes_end<grouping>(p, t);
    for (int64_t k = t.k_begin; k < end; k += kDepth) {
      wait(m.full + ring.stage, ring.parity);
      if (copied || (kAcrossA && k + kDepth > t.k_end)) show_to_tensor_cores();
      const __nv_bfloat16* const stage = m.stages + ring.stage * T::kStageElements;
      const uint64_t a = descriptor(stage + group * 64 * kDepth, kBlockBytes, kRowsOf8);
      const uint64_t b = descriptor(stage + kTileRows * kDepth, kBlockBytes, kRowsOf8);
      begin_products();
#pragma unroll
      for (int i = 0; i < kDepth / 16; ++i) {
        MultiplyAdd<columns, kAcrossA, across>::run(sum, a + i * (kAcrossA ? kStepAcross : kStepAlong),
                                                    b + i * (across ? kStepAcross : kStepAlong));
      }
      commit_products();
      if (leads) pass_by(kSkewBarrier, 2 * kGroup);
      leads = false;
      wait_for_products<1>();  // the pass before has been read: its stage is free
      if (previous >= 0) release(m.empty + previous, size);
      previous = ring.stage;
      ring.advance();
    }
    if (leads) pass_by(kSkewBarrier, 2 * kGroup);  // a tile without a pass
    leads = false;
    wait_for_products<0>();
    settle(sum);
    if (previous >= 0) release(m.empty + previous, size);
    store_tile<grouping, columns, ending>(p, t, act, sum, m.results, squares);
  }
  if (leads) pass_by(kSkewBarrier, 2 * kGroup);  // no tile at all
  if constexpr (grouping == Grouping::reduction) {
    if (p.squares == nullptr) return;
    squares = warp_sum(squares);
    const unsigned worker = threadIdx.x / kWarp - kGroup / kWarp;
    if (threadIdx.x % kWarp == 0) p.squares[blockIdx.x * kMultiplyingWarps + worker] = squares;
  }
}

template <Grouping grouping, bool across, int columns, Ending ending>
__global__ void __launch_bounds__(kThreads, 1)
    kernel(TileProblem p, const __grid_constant__ Bulk a_bulk, const __grid_constant__ Bulk b_bulk,
           const __grid_constant__ Added added, int tile_count, RowActivation act) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using T = Tiles<columns, across>;
  extern __shared__ unsigned char raw[];
  __shared__ uint64_t full[T::kStages], empty[T::kStages];
  unsigned char* const aligned = reinterpret_cast<unsigned char*>(
      (reinterpret_cast<uintptr_t>(raw) + kPatternBytes - 1) / kPatternBytes * kPatternBytes);
  unsigned char* const behind = aligned + T::kStages * T::kStageBytes;
  const Memory memory{.stages = reinterpret_cast<__nv_bfloat16*>(aligned),
                      .results = reinterpret_cast<__nv_bfloat16*>(behind),
                      .window = reinterpret_cast<int*>(behind + kStoreBytes),
                      .full = full,
                      .empty = empty};
  let_next_start();
  if (threadIdx.x == 0) {
    const unsigned copying = threads_copy<grouping>(a_bulk, b_bulk) ? kGroup : 0;
    for (int i = 0; i < T::kStages; ++i) {
      init_barrier(full + i, copying + 1);  // of every copying thread, and of the one that starts bulk copies
      init_barrier(empty + i, static_cast<unsigned>(cluster_size()) * 2 * kGroup / kWarp);
    }
    publish_barriers();
  }
  __syncthreads();
  synchronize_cluster();  // nobody arrives at a barrier that is not there yet
  wait_for_previous();
  if (threadIdx.x < kGroup) {
    give_registers<kLoadRegisters>();
    load_tiles<grouping, across, columns, ending>(p, a_bulk, b_bulk, added, tile_count, memory);
  } else {
    take_registers<kMultiplyRegisters>();
    multiply_tiles<grouping, across, columns, ending>(p, a_bulk, b_bulk, tile_count, act, memory);
  }
  synchronize_cluster();  // the other block may still load into this one, and arrive at its barriers
#else
  (void)p, (void)a_bulk, (void)b_bulk, (void)added, (void)tile_count, (void)act;
#endif
}

}  // namespace moe::cuda::hopper
