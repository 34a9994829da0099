#pragma once
/// Tools for kernels and their launchers: matrices of either float type, reductions, launches.

#include <algorithm>

#include <cuda_bf16.h>

#include "backend/cuda/context.h"
#include "backend/cuda/storage.h"

namespace moe::cuda {

constexpr int kWarp = 32;
constexpr int kChunk = 8;  ///< elements that a thread handles at once: 16 bytes of bf16

/// A matrix (or vector: one row) of f32 or bf16, in the form that kernels use. `wide`: every chunk of a row is aligned
/// for vector accesses.
struct Matrix {
  void* data = nullptr;
  int64_t step = 0;  ///< elements from one row to the next
  bool bf16 = false;
  bool wide = false;

  __host__ __device__ explicit operator bool() const { return data != nullptr; }
};

/// A view of one or two axes. Absent views give absent matrices.
inline Matrix matrix(const View& view) {
  if (!view) return {};
  const int64_t step = view.rank() > 1 ? view.stride[0] : 0;
  const auto chunk_bytes =
      static_cast<uintptr_t>(kChunk * size_of(view.dtype) > 16 ? 16 : kChunk * size_of(view.dtype));
  const bool wide = reinterpret_cast<uintptr_t>(view.data) % chunk_bytes == 0 &&
                    static_cast<size_t>(step) * size_of(view.dtype) % chunk_bytes == 0;
  return {view.data, step, is_bf16(view), wide};
}

__device__ inline float load(const Matrix& m, int64_t row, int64_t column) {
  const int64_t at = row * m.step + column;
  return m.bf16 ? __bfloat162float(static_cast<const __nv_bfloat16*>(m.data)[at])
                : static_cast<const float*>(m.data)[at];
}

__device__ inline void store(const Matrix& m, int64_t row, int64_t column, float value) {
  const int64_t at = row * m.step + column;
  if (m.bf16) {
    static_cast<__nv_bfloat16*>(m.data)[at] = __float2bfloat16_rn(value);
  } else {
    static_cast<float*>(m.data)[at] = value;
  }
}

/// `value` after rounding to the matrix's type.
__device__ inline float rounded(const Matrix& m, float value) {
  return m.bf16 ? __bfloat162float(__float2bfloat16_rn(value)) : value;
}

/// Up to kChunk elements of a row from `column` on. Elements from `width` on read as 0.
__device__ inline void load_chunk(const Matrix& m, int64_t row, int64_t column, int64_t width, float (&out)[kChunk]) {
  const int64_t at = row * m.step + column;
  if (m.wide && column + kChunk <= width) {
    if (m.bf16) {
      const uint4 bits = *reinterpret_cast<const uint4*>(static_cast<const __nv_bfloat16*>(m.data) + at);
      const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(&bits);
#pragma unroll
      for (int i = 0; i < kChunk / 2; ++i) {
        const float2 pair = __bfloat1622float2(pairs[i]);
        out[2 * i] = pair.x;
        out[2 * i + 1] = pair.y;
      }
    } else {
      const auto* four = reinterpret_cast<const float4*>(static_cast<const float*>(m.data) + at);
      const float4 low = four[0], high = four[1];
      out[0] = low.x, out[1] = low.y, out[2] = low.z, out[3] = low.w;
      out[4] = high.x, out[5] = high.y, out[6] = high.z, out[7] = high.w;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kChunk; ++i) out[i] = column + i < width ? load(m, row, column + i) : 0.0f;
}

/// Stores the elements before `width`.
__device__ inline void store_chunk(const Matrix& m, int64_t row, int64_t column, int64_t width,
                                   const float (&in)[kChunk]) {
  const int64_t at = row * m.step + column;
  if (m.wide && column + kChunk <= width) {
    if (m.bf16) {
      uint4 bits;
      auto* pairs = reinterpret_cast<__nv_bfloat162*>(&bits);
#pragma unroll
      for (int i = 0; i < kChunk / 2; ++i) pairs[i] = __floats2bfloat162_rn(in[2 * i], in[2 * i + 1]);
      *reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(m.data) + at) = bits;
    } else {
      auto* four = reinterpret_cast<float4*>(static_cast<float*>(m.data) + at);
      four[0] = make_float4(in[0], in[1], in[2], in[3]);
      four[1] = make_float4(in[4], in[5], in[6], in[7]);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    if (column + i < width) store(m, row, column + i, in[i]);
  }
}

template <class T>
__device__ T warp_sum(T value) {
#pragma unroll
  for (int lane = kWarp / 2; lane > 0; lane /= 2) value += __shfl_xor_sync(0xffffffffu, value, lane);
  return value;
}

__device__ inline float warp_max(float value) {
#pragma unroll
  for (int lane = kWarp / 2; lane > 0; lane /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, lane));
  return value;
}

/// The sum over a block of whole warps; every thread gets it. `shared` holds one value per warp.
template <class T>
__device__ T block_sum(T value, T* shared) {
  value = warp_sum(value);
  __syncthreads();  // `shared` may still be read for the previous call
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = value;
  __syncthreads();
  T sum = 0;
  for (unsigned i = 0; i < blockDim.x / kWarp; ++i) sum += shared[i];
  return sum;
}

__device__ inline float block_max(float value, float* shared) {
  value = warp_max(value);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = value;
  __syncthreads();
  float largest = shared[0];
  for (unsigned i = 1; i < blockDim.x / kWarp; ++i) largest = fmaxf(largest, shared[i]);
  return largest;
}

/// An order of all scores; scores that are not numbers come last.
__device__ inline float rank(float score) { return isnan(score) ? -INFINITY : score; }

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Queues kernel(args...) on the context's stream; a grid without blocks queues nothing.
template <class... Parameters, class... Args>
void launch(const Context& context, void (*kernel)(Parameters...), dim3 grid, dim3 threads, size_t shared_bytes,
            Args... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  kernel<<<grid, threads, shared_bytes, context.stream>>>(args...);
  check(cudaGetLastError(), "starting a kernel");
}

inline dim3 blocks(int64_t count) {
  MOE_CHECK(count >= 0 && count <= INT32_MAX);
  return dim3(static_cast<unsigned>(count));
}
/// Blocks of `threads` threads, with a thread or a warp for each of `count` items.
inline dim3 threads_for(int64_t count, unsigned threads) { return blocks(ceil_div(count, threads)); }
inline dim3 warps_for(int64_t count, unsigned threads) { return blocks(ceil_div(count, threads / kWarp)); }

/// A thread for each chunk of each row of a matrix. Finding its place needs no division; an element-wise kernel has
/// time for few of them.
struct RowGrid {
  dim3 grid, threads;

  RowGrid(int64_t rows, int64_t width) {
    constexpr int64_t kMost = 256;
    const int64_t chunks = ceil_div(width, kChunk), across = ceil_div(chunks, kMost);
    const int64_t x = across == 0 ? 1 : ceil_div(chunks, across), y = std::max<int64_t>(1, kMost / x);
    threads = dim3(static_cast<unsigned>(x), static_cast<unsigned>(y));
    grid = blocks(ceil_div(rows, y));
    grid.y = static_cast<unsigned>(across);
  }
};
/// The same in the kernel: the row (it may be after the last one) and the first column (likewise).
__device__ inline int64_t grid_row() { return static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; }
__device__ inline int64_t grid_column() { return static_cast<int64_t>(blockIdx.y * blockDim.x + threadIdx.x) * kChunk; }

/// Eight neighbours in bf16, as they are in memory.
struct Bf16Chunk {
  uint4 bits;

  __device__ static Bf16Chunk load(const Matrix& m, int64_t row, int64_t column) {
    return {*reinterpret_cast<const uint4*>(static_cast<const __nv_bfloat16*>(m.data) + row * m.step + column)};
  }
  /// What should not stay in the cache.
  __device__ static Bf16Chunk load_once(const Matrix& m, int64_t row, int64_t column) {
    return {__ldcs(reinterpret_cast<const uint4*>(static_cast<const __nv_bfloat16*>(m.data) + row * m.step + column))};
  }
  __device__ static Bf16Chunk of(const float (&in)[kChunk]) {
    Bf16Chunk result;
    auto* const pairs = reinterpret_cast<__nv_bfloat162*>(&result.bits);
#pragma unroll
    for (int i = 0; i < kChunk / 2; ++i) pairs[i] = __floats2bfloat162_rn(in[2 * i], in[2 * i + 1]);
    return result;
  }
  __device__ void get(float (&out)[kChunk]) const {
    const auto* const pairs = reinterpret_cast<const __nv_bfloat162*>(&bits);
#pragma unroll
    for (int i = 0; i < kChunk / 2; ++i) {
      const float2 pair = __bfloat1622float2(pairs[i]);
      out[2 * i] = pair.x;
      out[2 * i + 1] = pair.y;
    }
  }
  __device__ void store(const Matrix& m, int64_t row, int64_t column) const {
    *reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(m.data) + row * m.step + column) = bits;
  }
  __device__ void store_once(const Matrix& m, int64_t row, int64_t column) const {
    __stcs(reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(m.data) + row * m.step + column), bits);
  }
};

/// True if a matrix can be accessed in Bf16Chunks, or is absent.
inline bool in_bf16_chunks(const Matrix& m, int64_t width) { return !m || (m.bf16 && m.wide && width % kChunk == 0); }

}  // namespace moe::cuda
