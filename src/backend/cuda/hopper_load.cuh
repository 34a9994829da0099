#pragma once
/// How Hopper's grouped products load: the copy engine (TMA) takes what is not gathered, which leaves the load units
/// free; gathered rows, and an expert's last rows where rows are reduced over, come by cp.async from the threads of one
/// warpgroup.

#include "backend/cuda/cluster.cuh"
#include "backend/cuda/hopper_tiles.h"
#include "backend/cuda/tensor_core.cuh"
#include "backend/cuda/tile_problem.cuh"

namespace moe::cuda::hopper {

constexpr int kDepth = 64;
constexpr int kGroup = 128;
constexpr int kThreads = 3 * kGroup;
constexpr size_t kPatternBytes = 1024;                ///< alignment of the swizzle's pattern
constexpr size_t kStoreBytes = size_t{16} << 10;      ///< where results are put in order (hopper_store.cuh)
constexpr size_t kMostShared = 227 << 10;             ///< of a block
constexpr int kWindow = 512;                          ///< rows whose indices are fetched at a time
constexpr int kLoadersBarrier = 1, kSkewBarrier = 2;  // named barriers

/// The shared memory of a kernel with tiles of so many columns.
template <int columns, bool b_across>
struct Tiles {
  /// Lines across the reduced dimension come in blocks of 64 columns.
  static constexpr int kStored = b_across ? (columns + 63) / 64 * 64 : columns;
  static constexpr int kStageElements = (kTileRows + kStored) * kDepth;
  static constexpr size_t kStageBytes = kStageElements * sizeof(__nv_bfloat16);
  static constexpr size_t kWindowBytes = 2 * kWindow * sizeof(int);
  static constexpr size_t kRestBytes = kStoreBytes + kWindowBytes + kPatternBytes;
  static constexpr int kStages = static_cast<int>((kMostShared - kRestBytes - 256) / kStageBytes) < 6
                                     ? static_cast<int>((kMostShared - kRestBytes - 256) / kStageBytes)
                                     : 6;
  static constexpr size_t kSharedBytes = kStages * kStageBytes + kRestBytes;
};

/// Which stage a pass uses and how often the ring has gone round, counted over all of a block's tiles.
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

/// The tiles of one pair of blocks, or of one block: round by round, in turn from the first and from the last, so that
/// the largest experts, which come first, do not all go to the same ones.
struct Turns {
  int round = 0;
  int tile;
  __device__ Turns() : tile(next()) {}
  __device__ void advance() { tile = next(); }

 private:
  __device__ int next() {
    const int size = cluster_size(), places = static_cast<int>(gridDim.x) / size,
              me = static_cast<int>(blockIdx.x) / size;
    const int at = round * places + (round % 2 == 0 ? me : places - 1 - me);
    ++round;
    return at;
  }
};

/// How the copy engine sees an operand whose rows are not gathered.
struct Bulk {
  CUtensorMap map;
  bool present;
};

/// The operands of the product that is added (TileProblem::k_added).
struct Added {
  Bulk a, b;
};

/// Rows (or columns) of b that a box of one block of a pair holds; the second one's begins so that both end together.
constexpr int box_columns(int columns, int pair) { return pair == 1 ? columns : (columns / 2 + 7) / 8 * 8; }

__device__ inline int loader() { return static_cast<int>(threadIdx.x) % kGroup; }

/// Where chunk `chunk` of stored row `row` lies, in bytes, in blocks of 64 elements: descriptor() in wgmma.cuh says
/// how.
__device__ inline unsigned place_of(int row, int chunk) {
  const int block = chunk / 8 * kDepth * 64;
  return static_cast<unsigned>(block + row * 64 + ((chunk % 8) ^ (row & 7)) * kChunk) *
         static_cast<unsigned>(sizeof(__nv_bfloat16));
}

/// kTileRows gathered rows of a by kDepth of their columns: a thread copies one chunk of eight rows.
struct GatheredRows {
  static constexpr int kRowChunks = kDepth / kChunk, kRowsApart = kGroup / kRowChunks, kCopies = kTileRows / kRowsApart;
  const char* base;
  int step;  ///< bytes
  int picked[kCopies];
  bool whole;

  __device__ void aim(const Operand& x, int64_t begin, int64_t end) {
    base = static_cast<const char*>(x.data);
    step = static_cast<int>(x.step) * static_cast<int>(sizeof(__nv_bfloat16));
    whole = begin + kTileRows <= end;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int64_t r = begin + loader() / kRowChunks + i * kRowsApart;
      picked[i] = r < end ? x.rows[r] : -1;
    }
  }
  __device__ void load(const __nv_bfloat16* shared, int64_t k, int64_t k_end) const {
    const int chunk = loader() % kRowChunks;
    const int64_t column = k + chunk * kChunk;
    const char* const from = base + column * static_cast<int64_t>(sizeof(__nv_bfloat16));
    const unsigned to = shared_address(shared) + place_of(loader() / kRowChunks, chunk);
    constexpr unsigned kApart = kRowsApart * 64 * sizeof(__nv_bfloat16);
    if (whole && column < k_end) {
#pragma unroll
      for (int i = 0; i < kCopies; ++i) copy_whole_chunk(to + i * kApart, from + int64_t{picked[i]} * step);
      return;
    }
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const bool valid = column < k_end && picked[i] >= 0;
      copy_chunk(to + i * kApart, valid ? from + int64_t{picked[i]} * step : base, valid);
    }
  }
};

/// kDepth gathered rows, which are reduced over, by kTileRows of their columns. The indices come in windows through
/// shared memory, in the order in which threads need them (row q of 64 at place q % 8 * 8 + q / 8): fetching each for
/// itself, a loading warp would issue more instructions than it has time for.
struct GatheredDepth {
  static constexpr int kRowChunks = kTileRows / kChunk, kRowsApart = kGroup / kRowChunks, kCopies = kDepth / kRowsApart;
  static constexpr int kMine = kWindow / kGroup;
  static_assert(kRowsApart == 8 && kCopies == 8);
  const char* base;
  int step;  ///< bytes
  const int* rows;
  bool inside;
  int coming[kMine];
  int used = 0;  ///< windows so far, of all tiles

  __device__ void aim(const Operand& x, int64_t begin, int64_t end) {
    const int64_t column = begin + loader() % kRowChunks * kChunk;
    inside = column < end;
    base = static_cast<const char*>(x.data) + (inside ? column : 0) * static_cast<int64_t>(sizeof(__nv_bfloat16));
    step = static_cast<int>(x.step) * static_cast<int>(sizeof(__nv_bfloat16));
    rows = x.rows;
  }
  __device__ void fetch(int64_t first, int64_t k_end) {
#pragma unroll
    for (int i = 0; i < kMine; ++i) {
      const int64_t row = first + loader() + i * kGroup;
      coming[i] = row < k_end ? rows[row] : -1;
    }
  }
  /// Before the pass at k, `pass` passes after the tile's first.
  __device__ void prepare(int* window, int pass, int64_t k, int64_t k_end) {
    if (pass % (kWindow / kDepth) != 0) return;
    if (pass == 0) fetch(k, k_end);
    int* const half = window + used % 2 * kWindow;  // who is late still reads the other half
    ++used;
#pragma unroll
    for (int i = 0; i < kMine; ++i) {
      const int row = loader() + i * kGroup;
      half[row / kDepth * kDepth + row % 8 * 8 + row % kDepth / 8] = coming[i];
    }
    wait_at(kLoadersBarrier, kGroup);
    fetch(k + kWindow, k_end);
  }
  __device__ void load(const __nv_bfloat16* shared, const int* window, int pass, bool masked) const {
    const int row = loader() / kRowChunks;
    const auto* const mine = reinterpret_cast<const int4*>(window + (used - 1) % 2 * kWindow +
                                                           pass % (kWindow / kDepth) * kDepth + row * kCopies);
    const int4 low = mine[0], high = mine[1];
    const int picked[kCopies] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    const unsigned to = shared_address(shared) + place_of(row, loader() % kRowChunks);
    constexpr unsigned kApart = kRowsApart * 64 * sizeof(__nv_bfloat16);
    if (inside && !masked) {
#pragma unroll
      for (int i = 0; i < kCopies; ++i) copy_whole_chunk(to + i * kApart, base + int64_t{picked[i]} * step);
      return;
    }
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const bool valid = inside && picked[i] >= 0;
      copy_chunk(to + i * kApart, valid ? base + int64_t{picked[i]} * step : base, valid);
    }
  }
};

/// kDepth rows, which are reduced over, by `width` columns, zeros behind the last of each: for an expert's last rows,
/// and for rows of b that are gathered, which no layer's product needs to be fast.
__device__ inline void load_depth(const Operand& x, const __nv_bfloat16* shared, int64_t begin, int64_t end, int width,
                                  int64_t k, int64_t k_end) {
  const int chunks = width / kChunk;
  const auto* const data = static_cast<const __nv_bfloat16*>(x.data);
  for (int i = loader(); i < kDepth * chunks; i += kGroup) {
    const int row = i / chunks, chunk = i % chunks;
    const int64_t column = begin + chunk * kChunk, at = k + row;
    const bool valid = at < k_end && column < end;
    const int64_t stored = valid && x.rows != nullptr ? x.rows[at] : at;
    copy_chunk(shared_address(shared) + place_of(row, chunk), valid ? data + stored * x.step + column : data, valid);
  }
}

/// Starts the bulk copies of a tile's part of a; one thread does.
template <bool across>
__device__ void load_a_in_bulk(const Bulk& a, __nv_bfloat16* shared, uint64_t* barrier, int64_t row, int64_t k) {
  if constexpr (across) {
    for (int block = 0; block < kTileRows / 64; ++block) {
      copy_box(a.map, shared + block * 64 * kDepth, barrier, static_cast<int>(row) + block * 64, static_cast<int>(k),
               0);
    }
  } else {
    copy_box(a.map, shared, barrier, static_cast<int>(k), static_cast<int>(row), 0);
  }
}

/// The same of b, of which each block of a pair loads a part for both; expects in this block what both bring. Few large
/// boxes: the engine takes its time for each, however small. `issuer` of `issuers` threads that start them.
template <int columns, bool across>
__device__ void load_b_in_bulk(const Bulk& b, __nv_bfloat16* shared, uint64_t* barrier, int64_t column, int64_t k,
                               int expert, int size, int rank, int issuer, int issuers) {
  const int y = static_cast<int>(k), x = static_cast<int>(column);
  if constexpr (across) {
    for (int block = rank + issuer * size; block < Tiles<columns, true>::kStored / 64; block += issuers * size) {
      __nv_bfloat16* const to = shared + block * 64 * kDepth;
      if (size == 1) {
        copy_box(b.map, to, barrier, x + block * 64, y, expert);
      } else {
        copy_box_to_pair(b.map, to, barrier, x + block * 64, y, expert);
      }
    }
  } else if (issuer > 0) {
    return;
  } else if (size == 1) {
    copy_box(b.map, shared, barrier, y, x, expert);
  } else {
    const int first = rank * (columns - box_columns(columns, 2));  // halves may overlap: both bring the same
    copy_box_to_pair(b.map, shared + first * kDepth, barrier, y, x + first, expert);
  }
}
template <int columns, bool across>
__device__ unsigned bytes_of_b(int size) {
  const int lines = across ? Tiles<columns, true>::kStored : size * box_columns(columns, size);
  return static_cast<unsigned>(lines * kDepth) * static_cast<unsigned>(sizeof(__nv_bfloat16));
}

/// Of a gate and its up projection, `width` rows behind it in b: `columns` / 2 rows of each, side by side as one
/// tile's. Behind the gate's last row come rows of up, behind the last of those zeros; what they make is not stored.
template <int columns>
__device__ void load_gate_and_up(const Bulk& b, __nv_bfloat16* shared, uint64_t* barrier, int64_t column, int64_t width,
                                 int64_t k, int expert, int size, int rank) {
  const int y = static_cast<int>(k), x = static_cast<int>(column), up = static_cast<int>(column + width);
  constexpr int kHalf = columns / 2 * kDepth;
  if (size == 1) {
    copy_box(b.map, shared, barrier, y, x, expert);
    copy_box(b.map, shared + kHalf, barrier, y, up, expert);
  } else {
    copy_box_to_pair(b.map, shared + rank * kHalf, barrier, y, rank == 0 ? x : up, expert);
  }
}

}  // namespace moe::cuda::hopper
