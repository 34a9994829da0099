#include "backend/cuda/cache_hints.cuh"
#include "backend/cuda/early.cuh"
#include "backend/cuda/weight_element.cuh"
#include "ops/rows.h"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kWarps = kThreads / kWarp;
constexpr int kMostPerLane = 8;  ///< number of chunks of a row that a lane keeps
// Backward keeps five rows in registers: small blocks, as many at a time as fit.
constexpr unsigned kBackwardThreads = 128;
constexpr unsigned kBackwardWarps = kBackwardThreads / kWarp;
constexpr int blocks_together(int per_lane) { return per_lane > 5 ? 2 : 3; }

/// Widest first: enough threads for one chunk each, up to kThreads.
unsigned threads_for(int64_t width) {
  unsigned threads = kWarp;
  while (threads < kThreads && static_cast<int64_t>(threads) * kChunk < width) threads *= 2;
  return threads;
}

/// One block per row. The statistics are those of the stored sum. A thread keeps its first chunk.
__global__ void rms_norm_kernel(Matrix x, Matrix residual, Matrix sum, Matrix gain, float eps, Matrix y, float* inv_rms,
                                int64_t width) {
  __shared__ float shared[kWarps];
  let_next_start();
  ask_for_chunk(gain, 0, threadIdx.x * kChunk, width);
  wait_for_previous();
  const int64_t row = blockIdx.x, first = threadIdx.x * kChunk, step = blockDim.x * kChunk;
  float v[kChunk] = {}, other[kChunk], kept[kChunk], factor[kChunk], squares = 0;
  load_chunk(gain, 0, first, width, factor);
  for (int64_t c = first; c < width; c += step) {
    load_chunk(x, row, c, width, v);
    if (residual) {
      load_chunk(residual, row, c, width, other);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) v[i] = rounded(sum, v[i] + other[i]);
      store_chunk(sum, row, c, width, v);
    }
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      squares += v[i] * v[i];
      if (c == first) kept[i] = v[i];
    }
  }
  squares = block_sum(squares, shared);
  const float scale = 1 / sqrtf(squares / static_cast<float>(width) + eps);
  if (threadIdx.x == 0) inv_rms[row] = scale;
  for (int64_t c = first; c < width; c += step) {
    if (c > first) {
      load_chunk(residual ? sum : x, row, c, width, kept);
      load_chunk(gain, 0, c, width, factor);
    }
#pragma unroll
    for (int i = 0; i < kChunk; ++i) v[i] = factor[i] * rounded(y, kept[i] * scale);
    store_chunk(y, row, c, width, v);
  }
}

/// Block b takes rows b, b + gridDim.x, ... Each thread owns the same columns in every row, so that dgain's partial sum
/// (one per block, in shared memory) needs no other thread.
__global__ void rms_norm_backward_kernel(Matrix dy, Matrix x, Matrix gain, const float* inv_rms, Matrix dx,
                                         float* partials, int64_t rows, int64_t width) {
  extern __shared__ float dgain[];
  __shared__ float shared[kWarps];
  for (int64_t c = threadIdx.x * kChunk; c < width; c += blockDim.x * kChunk) {
    for (int64_t i = c; i < width && i < c + kChunk; ++i) dgain[i] = 0;
  }
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float scale = inv_rms[row];
    float d[kChunk], n[kChunk], g[kChunk], dot = 0;
    for (int64_t c = threadIdx.x * kChunk; c < width; c += blockDim.x * kChunk) {
      load_chunk(dy, row, c, width, d);
      load_chunk(x, row, c, width, n);
      load_chunk(gain, 0, c, width, g);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) dot += g[i] * d[i] * (n[i] * scale);
    }
    const float mean = block_sum(dot, shared) / static_cast<float>(width);
    for (int64_t c = threadIdx.x * kChunk; c < width; c += blockDim.x * kChunk) {
      float out[kChunk];
      load_chunk(dy, row, c, width, d);
      load_chunk(x, row, c, width, n);
      load_chunk(gain, 0, c, width, g);
      load_chunk(dx, row, c, width, out);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        const float normed = n[i] * scale;
        out[i] += scale * (g[i] * d[i] - normed * mean);
        if (c + i < width) dgain[c + i] += d[i] * normed;
      }
      store_chunk(dx, row, c, width, out);
    }
  }
  for (int64_t c = threadIdx.x * kChunk; c < width; c += blockDim.x * kChunk) {
    for (int64_t i = c; i < width && i < c + kChunk; ++i) partials[blockIdx.x * width + i] = dgain[i];
  }
}

/// One warp per row, for bf16 only, with the row in registers: chunk lane + 32 i is a lane's i-th. A warp takes row
/// after row, with the gain in registers too.
template <int per_lane>
__global__ void rms_norm_rows_kernel(Matrix x, Matrix residual, Matrix sum, Matrix gain, float eps, Matrix y,
                                     float* inv_rms, int64_t rows, int64_t width) {
  let_next_start();
  wait_for_previous();
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kWarps;
  const auto column = [lane](int i) { return (lane + i * kWarp) * kChunk; };
  Bf16Chunk g[per_lane] = {};
#pragma unroll
  for (int i = 0; i < per_lane; ++i) {
    if (column(i) < width) g[i] = Bf16Chunk::load(gain, 0, column(i));
  }
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp; row < rows; row += step) {
    Bf16Chunk in[per_lane] = {}, other[per_lane] = {};
#pragma unroll
    for (int i = 0; i < per_lane; ++i) {
      if (column(i) >= width) continue;
      in[i] = Bf16Chunk::load(x, row, column(i));
      if (residual) other[i] = Bf16Chunk::load(residual, row, column(i));
    }
    float squares = 0;
#pragma unroll
    for (int i = 0; i < per_lane; ++i) {
      float v[kChunk], r[kChunk];
      in[i].get(v);
      if (residual) {
        other[i].get(r);
#pragma unroll
        for (int j = 0; j < kChunk; ++j) v[j] += r[j];
        in[i] = Bf16Chunk::of(v);
        in[i].get(v);
        if (column(i) < width) in[i].store(sum, row, column(i));
      }
#pragma unroll
      for (int j = 0; j < kChunk; ++j) squares += v[j] * v[j];
    }
    const float scale = 1 / sqrtf(warp_sum(squares) / static_cast<float>(width) + eps);
    if (lane == 0) inv_rms[row] = scale;
#pragma unroll
    for (int i = 0; i < per_lane; ++i) {
      float v[kChunk], factor[kChunk];
      in[i].get(v);
      g[i].get(factor);
#pragma unroll
      for (int j = 0; j < kChunk; ++j) v[j] = factor[j] * __bfloat162float(__float2bfloat16_rn(v[j] * scale));
      if (column(i) < width) Bf16Chunk::of(v).store(y, row, column(i));
    }
  }
}

/// The same for backward. Each lane sums dgain of its columns over its warp's rows; then the block adds its warps'
/// sums, in order.
template <int per_lane>
__global__ void __launch_bounds__(kBackwardThreads, blocks_together(per_lane))
    rms_norm_backward_rows_kernel(Matrix dy, Matrix x, Matrix gain, const float* inv_rms, Matrix dx, float* partials,
                                  int64_t rows, int64_t width) {
  extern __shared__ float dgain[];
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kBackwardWarps;
  const auto column = [lane](int i) { return (lane + i * kWarp) * kChunk; };
  float mine[per_lane][kChunk] = {};
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kBackwardWarps + warp; row < rows; row += step) {
    Bf16Chunk d[per_lane] = {}, n[per_lane] = {}, old[per_lane] = {};
    const float scale = inv_rms[row];
#pragma unroll
    for (int i = 0; i < per_lane; ++i) {
      if (column(i) >= width) continue;
      d[i] = Bf16Chunk::load(dy, row, column(i));
      n[i] = Bf16Chunk::load(x, row, column(i));
      old[i] = Bf16Chunk::load(dx, row, column(i));
    }
    float dot = 0;
#pragma unroll
    for (int i = 0; i < per_lane; ++i) {
      float dv[kChunk], nv[kChunk], gv[kChunk];
      if (column(i) >= width) continue;
      d[i].get(dv), n[i].get(nv), Bf16Chunk::load(gain, 0, column(i)).get(gv);
#pragma unroll
      for (int j = 0; j < kChunk; ++j) {
        const float normed = nv[j] * scale;
        dot += gv[j] * dv[j] * normed;
        mine[i][j] += dv[j] * normed;
      }
    }
    const float mean = warp_sum(dot) / static_cast<float>(width);
#pragma unroll
    for (int i = 0; i < per_lane; ++i) {
      float dv[kChunk], nv[kChunk], gv[kChunk], out[kChunk];
      if (column(i) >= width) continue;
      d[i].get(dv), n[i].get(nv), Bf16Chunk::load(gain, 0, column(i)).get(gv), old[i].get(out);
#pragma unroll
      for (int j = 0; j < kChunk; ++j) out[j] += scale * (gv[j] * dv[j] - nv[j] * scale * mean);
      Bf16Chunk::of(out).store(dx, row, column(i));
    }
  }
  for (int turn = 0; turn < static_cast<int>(kBackwardWarps); ++turn) {
    if (turn == warp) {
#pragma unroll
      for (int i = 0; i < per_lane; ++i) {
        if (column(i) >= width) continue;
#pragma unroll
        for (int j = 0; j < kChunk; ++j) {
          float& total = dgain[column(i) + j];
          total = turn == 0 ? mine[i][j] : total + mine[i][j];
        }
      }
    }
    __syncthreads();
  }
  for (int64_t c = threadIdx.x; c < width; c += kBackwardThreads) partials[blockIdx.x * width + c] = dgain[c];
}

/// A block adds kWarp columns: each warp every kWarps-th part, then the warps' sums in order.
__global__ void add_partials_kernel(const float* partials, int64_t count, float* total, int64_t width) {
  __shared__ float sums[kWarps][kWarp];
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kWarp + lane;
  float sum = 0;
  if (c < width) {
#pragma unroll 8
    for (int64_t i = warp; i < count; i += kWarps) sum += partials[i * width + c];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || c >= width) return;
  for (unsigned i = 1; i < kWarps; ++i) sum += sums[i][lane];
  total[c] += sum;
}

/// Calls use(a constant) with the number of chunks per lane that rows of this width need.
template <class Use>
void for_chunks_per_lane(int64_t width, const Use& use) {
  const int64_t needed = ceil_div(width, kWarp * kChunk);
  if (needed <= 1) return use(std::integral_constant<int, 1>{});
  if (needed <= 2) return use(std::integral_constant<int, 2>{});
  if (needed <= 3) return use(std::integral_constant<int, 3>{});
  if (needed <= 5) return use(std::integral_constant<int, 5>{});
  use(std::integral_constant<int, kMostPerLane>{});
}

bool fits_lanes(int64_t width) { return width <= int64_t{kMostPerLane} * kWarp * kChunk; }

}  // namespace

namespace {

__global__ void widen_kernel(DType type, const void* from, float* to, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) to[i] = weight_element(type, from, i);
}

/// The gain in f32, in the workspace.
View widened(Context& context, const View& gain) {
  const int64_t width = gain.size(0);
  auto* const floats = Carver(context, RmsNorm::name).take<float>(width);
  launch(context, widen_kernel, blocks(ceil_div(width, int64_t{kThreads})), kThreads, 0, gain.dtype, gain.data, floats,
         width);
  return View(floats, DType::f32, {width});
}

}  // namespace

template <>
void execute(Context& context, const RmsNorm& op) {
  if (is_other_weight(op.gain.dtype)) {
    RmsNorm with_floats = op;
    with_floats.gain = widened(context, op.gain);
    return execute(context, with_floats);
  }
  const int64_t rows = op.x.size(0), width = op.x.size(1);
  const Matrix x = matrix(op.x), residual = matrix(op.residual), sum = matrix(op.sum), gain = matrix(op.gain),
               y = matrix(op.y);
  const auto in_bf16 = [&](const Matrix& m) { return in_bf16_chunks(m, width); };
  auto* const inv_rms = op.inv_rms.as<float>();
  const bool few = rows <= context.multiprocessors;  // a block for each is done sooner than a warp
  if (!few && fits_lanes(width) && in_bf16(x) && in_bf16(residual) && in_bf16(sum) && in_bf16(gain) && in_bf16(y)) {
    const dim3 grid = blocks(std::min<int64_t>(ceil_div(rows, kWarps), int64_t{8} * context.multiprocessors));
    for_chunks_per_lane(width, [&](auto per_lane) {
      launch_early(context, rms_norm_rows_kernel<per_lane()>, grid, kThreads, 0, x, residual, sum, gain, op.eps, y,
                   inv_rms, rows, width);
    });
    return;
  }
  launch_early(context, rms_norm_kernel, blocks(rows), threads_for(width), 0, x, residual, sum, gain, op.eps, y,
               inv_rms, width);
}

template <>
void execute(Context& context, const RmsNormBackward& op) {
  const int64_t rows = op.x.size(0), width = op.x.size(1);
  constexpr int64_t kMostWidth = 12000;  // dgain in 48 KiB of shared memory
  if (width > kMostWidth) fail("rms_norm_backward: the width is {}, and on a GPU at most {}", width, kMostWidth);
  const Matrix dy = matrix(op.dy), x = matrix(op.x), gain = matrix(op.gain), dx = matrix(op.dx);
  const auto in_bf16 = [&](const Matrix& m) { return in_bf16_chunks(m, width); };
  const bool in_lanes = fits_lanes(width) && in_bf16(dy) && in_bf16(x) && in_bf16(gain) && in_bf16(dx);
  // Depends only on the shape, so that the order of the sums is the same on every GPU. About the number that an H100
  // runs at a time.
  int64_t parts = std::min<int64_t>(rows, 512);
  if (in_lanes) {
    for_chunks_per_lane(width, [&](auto per_lane) {
      parts = std::min(ceil_div(rows, kBackwardWarps), int64_t{128} * blocks_together(per_lane()));
    });
  }
  if (width == 0 || parts == 0) return;
  auto* const partials = Carver(context, RmsNormBackward::name).take<float>(parts * width);
  const auto* const inv_rms = op.inv_rms.as<const float>();
  const size_t shared = static_cast<size_t>(width) * sizeof(float);
  if (in_lanes) {
    for_chunks_per_lane(width, [&](auto per_lane) {
      launch(context, rms_norm_backward_rows_kernel<per_lane()>, blocks(parts), kBackwardThreads, shared, dy, x, gain,
             inv_rms, dx, partials, rows, width);
    });
  } else {
    launch(context, rms_norm_backward_kernel, blocks(parts), threads_for(width), shared, dy, x, gain, inv_rms, dx,
           partials, rows, width);
  }
  launch(context, add_partials_kernel, blocks(ceil_div(width, kWarp)), kThreads, 0, partials, parts,
         op.dgain.as<float>(), width);
}

}  // namespace moe::cuda
