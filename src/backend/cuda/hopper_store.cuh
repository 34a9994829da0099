#pragma once
/// From the sums of Hopper's tensor cores to c. f32: four neighbours per thread, lanes exchange what they hold; old
/// values to add to are asked for several at a time (one after the other, each store would hold up the next load), from
/// a cache that was told of them when the tile began. bf16: through shared memory, each warp for itself.

#include "backend/cuda/hopper_load.cuh"

namespace moe::cuda::hopper {

__device__ inline float2 exchange(float2 value, int lanes) {
  return make_float2(__shfl_xor_sync(0xffffffffu, value.x, lanes), __shfl_xor_sync(0xffffffffu, value.y, lanes));
}

/// Of 16 columns in parts of 8, a lane holds lane % 4 * 2 and the next of each part, in row lane / 4; `at`: of the
/// first of them in `sum`. Gives it 4 columns of its row: even lanes of the first part, odd ones of the second, which
/// may lie behind the last.
template <int kSums>
__device__ float4 four_columns(const float (&sum)[kSums], int at) {
  const bool odd = threadIdx.x & 1;
  const float2 first = make_float2(sum[at], sum[at + 1]);
  const float2 second = at + 5 < kSums ? make_float2(sum[at + 4], sum[at + 5]) : make_float2(0, 0);
  const float2 got = exchange(odd ? first : second, 1);
  return odd ? make_float4(got.x, got.y, second.x, second.y) : make_float4(first.x, first.y, got.x, got.y);
}

/// Of the same, gives a lane rows 4 r to 4 r + 3 (r = lane / 16) of one column: of the four that these rows' lanes
/// hold, number lane / 4 % 4.
template <int kSums>
__device__ float4 four_rows(const float (&sum)[kSums], int at) {
  const bool odd = threadIdx.x & 4, high = threadIdx.x & 8;
  float2 two[2];  // of column 2 i + odd of the four: rows 0, 1 in the low lanes, 2, 3 in the high ones
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const bool held = at + 4 * i < kSums;
    const float low = held ? sum[at + 4 * i] : 0.0f, next = held ? sum[at + 4 * i + 1] : 0.0f;
    const float got = __shfl_xor_sync(0xffffffffu, odd ? low : next, 4);
    two[i] = odd ? make_float2(got, next) : make_float2(low, got);
  }
  const float2 kept = high ? two[1] : two[0], got = exchange(high ? two[0] : two[1], 8);
  return high ? make_float4(got.x, got.y, kept.x, kept.y) : make_float4(kept.x, kept.y, got.x, got.y);
}

/// Stores a warp's 16 rows from `row` on; p.c_quads must hold. Adds the squares of what this lane stores to `squares`.
template <bool transposed, int kSums>
__device__ void store_f32(const TileProblem& p, const Tile& t, int64_t row, const float (&sum)[kSums],
                          double& squares) {
  constexpr int kTogether = 4, kGroups = (kSums + 7) / 8;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, mine = lane / 4 % 4;
  row += transposed ? lane / 16 * 4 : lane / 4;
  const int64_t first =
      t.n_begin + (transposed ? mine / 2 * 8 + lane % 4 * 2 + mine % 2 : lane % 2 * 8 + lane % 4 / 2 * 4);
  // Those of a lane's first four and what follows in this tile.
  const int columns = static_cast<int>((p.n < t.n_begin + 2 * kSums ? p.n : t.n_begin + 2 * kSums) - first);
#pragma unroll
  for (int half = 0; half < 2; ++half, row += 8) {
    float* c = reinterpret_cast<float*>(t.c) + (transposed ? first * p.c_step + row : row * p.c_step + first);
    const int end = row < t.m_end ? columns : 0;
    const int64_t step = 16 * (transposed ? p.c_step : 1);
#pragma unroll
    for (int j = 0; j < kGroups; j += kTogether) {
      float4 old[kTogether] = {};
      if (p.accumulate) {
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
          if (j + i < kGroups && 16 * (j + i) < end) old[i] = *reinterpret_cast<const float4*>(c + i * step);
        }
      }
      float together = 0;  // of 16 values; conversions to f64 are slow
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        if (j + i >= kGroups) break;
        const int at = 8 * (j + i) + 2 * half;
        const float4 s = transposed ? four_rows(sum, at) : four_columns(sum, at);
        if (16 * (j + i) < end) {
          const float4 now = make_float4(old[i].x + s.x, old[i].y + s.y, old[i].z + s.z, old[i].w + s.w);
          *reinterpret_cast<float4*>(c + i * step) = now;
          together += now.x * now.x + now.y * now.y + now.z * now.z + now.w * now.w;
        }
      }
      if (p.squares != nullptr) squares += static_cast<double>(together);
      c += kTogether * step;
    }
  }
}

__device__ inline void store_matrices(unsigned to, const unsigned (&in)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(to), "r"(in[0]), "r"(in[1]),
               "r"(in[2]), "r"(in[3])
               : "memory");
}

/// bf16 results of a warp's 16 rows, 64 columns at a time, in shared memory of its own (2 KiB): 16-byte chunk c of row
/// r lies at place c ^ (r % 8). What lanes hold of the sums goes in, whole chunks of rows come out.
class Slice {
 public:
  static constexpr int kColumns = 64, kChunks = 4;  ///< of a lane, in rows 4 i + lane / 8

  __device__ explicit Slice(__nv_bfloat16* shared)
      : shared_(reinterpret_cast<char*>(shared)),
        lane_(static_cast<int>(threadIdx.x) % kWarp),
        // stmatrix takes the address of row l % 8 of matrix l / 8: rows 0 to 7 and 8 to 15 of a part of 8 columns, then
        // of the next.
        to_(shared_address(shared) + static_cast<unsigned>((lane_ / 8 % 2 * 8 + lane_ % 8) * 128)) {}

  __device__ int row(int i) const { return 4 * i + lane_ / 8; }
  __device__ int column() const { return lane_ % 8 * 8; }

  /// Columns `first` to first + 63 of the sums, fewer at their end.
  template <int kSums>
  __device__ void put(const float (&sum)[kSums], int first) const {
    __syncwarp();  // the slice before has been read
#pragma unroll
    for (int part = 0; part < 8; part += 2) {
      if (first + 8 * part >= 2 * kSums) break;
      unsigned pairs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = (first / 8 + part + i / 2) * 4 + i % 2 * 2;
        const __nv_bfloat162 pair = at < kSums ? __floats2bfloat162_rn(sum[at], sum[at + 1]) : __nv_bfloat162();
        pairs[i] = *reinterpret_cast<const unsigned*>(&pair);
      }
      store_matrices(to_ + static_cast<unsigned>(((part + lane_ / 16) ^ (lane_ % 8)) * 16), pairs);
    }
    __syncwarp();
  }
  __device__ uint4 chunk(int i) const { return *place(i); }
  /// The other way: whole chunks of rows go in ...
  __device__ void set_chunk(int i, uint4 chunk) const { *place(i) = chunk; }
  /// ... and are added to the sums from column `first` on.
  template <int kSums>
  __device__ void add_to(float (&sum)[kSums], int first) const {
    __syncwarp();
#pragma unroll
    for (int part = 0; part < 8; part += 2) {
      if (first + 8 * part >= 2 * kSums) break;
      unsigned pairs[4];
      const int matrix = (lane_ / 8 % 2 * 8 + lane_ % 8) * 128;  // where put() stores it
      load_matrices(shared_ + matrix + ((part + lane_ / 16) ^ (lane_ % 8)) * 16, pairs);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = (first / 8 + part + i / 2) * 4 + i % 2 * 2;
        if (at >= kSums) continue;
        const float2 old = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&pairs[i]));
        sum[at] += old.x;
        sum[at + 1] += old.y;
      }
    }
    __syncwarp();
  }

 private:
  __device__ uint4* place(int i) const {
    return reinterpret_cast<uint4*>(shared_ + row(i) * 128 + ((lane_ % 8) ^ (row(i) % 8)) * 16);
  }

  char* shared_;
  int lane_;
  unsigned to_;
};

/// Stores a warp's 16 rows from `row` on as bf16; p.c_chunked must hold.
template <int kSums>
__device__ void store_bf16(const TileProblem& p, const Tile& t, int64_t row, const float (&sum)[kSums],
                           __nv_bfloat16* shared) {
  constexpr int kColumns = 2 * kSums;
  const Slice slice(shared);
  const int64_t left = t.m_end - row;
  auto* const c = reinterpret_cast<__nv_bfloat16*>(t.c) + row * p.c_step + t.n_begin;
#pragma unroll
  for (int first = 0; first < kColumns; first += Slice::kColumns) {
    slice.put(sum, first);
    const int column = first + slice.column();
#pragma unroll
    for (int i = 0; i < Slice::kChunks; ++i) {
      const uint4 chunk = slice.chunk(i);
      if (slice.row(i) < left && column < kColumns && t.n_begin + column < p.n) {
        *reinterpret_cast<uint4*>(c + slice.row(i) * p.c_step + column) = chunk;
      }
    }
  }
}

/// Adds what c holds, as bf16, to the sums of a warp's 16 rows from `row` on; p.c_chunked must hold.
template <int kSums>
__device__ void add_old_bf16(const TileProblem& p, const Tile& t, int64_t row, float (&sum)[kSums],
                             __nv_bfloat16* shared) {
  constexpr int kColumns = 2 * kSums;
  const Slice slice(shared);
  const int64_t left = t.m_end - row;
  const auto* const c = reinterpret_cast<const __nv_bfloat16*>(t.c) + row * p.c_step + t.n_begin;
#pragma unroll
  for (int first = 0; first < kColumns; first += Slice::kColumns) {
    const int column = first + slice.column();
#pragma unroll
    for (int i = 0; i < Slice::kChunks; ++i) {
      const bool inside = slice.row(i) < left && column < kColumns && t.n_begin + column < p.n;
      slice.set_chunk(i, inside ? *reinterpret_cast<const uint4*>(c + slice.row(i) * p.c_step + column) : uint4{});
    }
    slice.add_to(sum, first);
  }
}

/// Brings what c holds to the L2 cache while the products are computed that will be added to it; by kGroup threads.
template <int kRows, int kColumns, int kThreads>
__device__ void fetch_old_sums(const TileProblem& p, const Tile& t) {
  if (!p.accumulate || !p.c_quads) return;
  constexpr int kLine = 32;  // floats of 128 bytes
  const int64_t first_row = p.c_transposed ? t.n_begin : t.m_begin, first = p.c_transposed ? t.m_begin : t.n_begin;
  const int64_t rows = p.c_transposed ? p.n : t.m_end, end = p.c_transposed ? t.m_end : p.n;
  const int height = p.c_transposed ? kColumns : kRows, width = p.c_transposed ? kRows : kColumns;
  for (int i = static_cast<int>(threadIdx.x) % kThreads; i < height; i += kThreads) {
    const int64_t row = first_row + i;
    if (row >= rows) return;
    const auto* const c = reinterpret_cast<const float*>(t.c) + row * p.c_step;
    for (int64_t column = first; column < end && column < first + width; column += kLine) {
      asm volatile("prefetch.global.L2 [%0];\n" ::"l"(c + column));
    }
  }
}

}  // namespace moe::cuda::hopper
