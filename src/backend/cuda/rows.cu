#include "backend/cuda/early.cuh"
#include "backend/cuda/rotate.cuh"
#include "backend/cuda/swiglu.cuh"
#include "ops/rows.h"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kWarps = kThreads / kWarp;

/// The rows that SwiGlu and its backward compute: fewer than all where row_count says so.
__device__ bool row_is_active(int64_t row, const int* row_count) { return row_count == nullptr || row < *row_count; }

__device__ float scale_of(const float* scale, const int* scale_index, int64_t row) {
  return scale == nullptr ? 1.0f : scale[scale_index[row]];
}

/// The up projection of a row of gate_up, `width` elements behind the gate's.
__host__ __device__ Matrix up_half(Matrix m, int64_t width) {
  m.data = static_cast<char*>(m.data) + width * (m.bf16 ? 2 : 4);
  m.wide = m.wide && width % kChunk == 0;
  return m;
}

struct SwiGluArgs {
  Matrix gate, up;
  const float* scale;
  const int* scale_index;
  const int* row_count;
  Matrix y;
  int64_t rows, width;
};

/// `in_bf16`: every matrix can be taken in Bf16Chunks.
template <bool in_bf16>
__device__ void load_chunk(const Matrix& m, int64_t row, int64_t column, int64_t width, float (&out)[kChunk]) {
  if constexpr (in_bf16) {
    Bf16Chunk::load(m, row, column).get(out);
  } else {
    cuda::load_chunk(m, row, column, width, out);
  }
}
template <bool in_bf16>
__device__ void store_chunk(const Matrix& m, int64_t row, int64_t column, int64_t width, const float (&in)[kChunk]) {
  if constexpr (in_bf16) {
    Bf16Chunk::of(in).store(m, row, column);
  } else {
    cuda::store_chunk(m, row, column, width, in);
  }
}

/// The same, for what nothing reads again soon.
template <bool in_bf16>
__device__ void store_once(const Matrix& m, int64_t row, int64_t column, int64_t width, const float (&in)[kChunk]) {
  if constexpr (in_bf16) {
    Bf16Chunk::of(in).store_once(m, row, column);
  } else {
    cuda::store_chunk(m, row, column, width, in);
  }
}

template <bool in_bf16>
__global__ void swiglu_kernel(SwiGluArgs a) {
  let_next_start();
  wait_for_previous();
  const int64_t row = grid_row(), c = grid_column();
  if (row >= a.rows || c >= a.width || !row_is_active(row, a.row_count)) return;
  float gate[kChunk], up[kChunk], y[kChunk];
  load_chunk<in_bf16>(a.gate, row, c, a.width, gate);
  load_chunk<in_bf16>(a.up, row, c, a.width, up);
  swiglu(gate, up, scale_of(a.scale, a.scale_index, row), y);
  store_chunk<in_bf16>(a.y, row, c, a.width, y);
}

struct SwiGluBackwardArgs {
  Matrix gate, up;
  const float* scale;
  const int* scale_index;
  const int* row_count;
  Matrix dy, d_gate, d_up, y;
  float* d_scale;
  int64_t rows, width;
};

/// A chunk as it is in memory, asked for long before it is used. It is used once, so it should not stay in the cache.
template <bool in_bf16>
struct Held {
  Bf16Chunk chunk;
  __device__ void load(const Matrix& m, int64_t row, int64_t column, int64_t) {
    chunk = Bf16Chunk::load_once(m, row, column);
  }
  __device__ void get(float (&out)[kChunk]) const { chunk.get(out); }
};
template <>
struct Held<false> {
  float values[kChunk];
  __device__ void load(const Matrix& m, int64_t row, int64_t column, int64_t width) {
    cuda::load_chunk(m, row, column, width, values);
  }
  __device__ void get(float (&out)[kChunk]) const {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) out[i] = values[i];
  }
};

/// One warp per row. A lane asks for its next kAhead chunks before it needs the first. Results may lie over operands,
/// chunk by chunk: those of a lane are stored by this lane alone, after it has loaded them.
template <bool in_bf16>
__global__ void __launch_bounds__(kThreads) swiglu_backward_kernel(SwiGluBackwardArgs a) {
  constexpr int kAhead = in_bf16 ? 4 : 1, kStep = kWarp * kChunk;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / kWarp) + threadIdx.x / kWarp;
  if (row >= a.rows || !row_is_active(row, a.row_count)) return;
  const float factor = scale_of(a.scale, a.scale_index, row);
  float row_d_scale = 0;
  Held<in_bf16> next_gate[kAhead], next_up[kAhead], next_d[kAhead];
  const auto load = [&](int i, int64_t c) {
    if (c >= a.width) return;
    next_gate[i].load(a.gate, row, c, a.width);
    next_up[i].load(a.up, row, c, a.width);
    next_d[i].load(a.dy, row, c, a.width);
  };
  const int64_t first = threadIdx.x % kWarp * kChunk;
#pragma unroll
  for (int i = 0; i < kAhead; ++i) load(i, first + i * kStep);
  for (int64_t begin = first; begin < a.width; begin += kAhead * kStep) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int64_t c = begin + i * kStep;
      if (c >= a.width) break;
      float gate[kChunk], up[kChunk], d[kChunk];
      next_gate[i].get(gate);
      next_up[i].get(up);
      next_d[i].get(d);
      load(i, c + kAhead * kStep);
      swiglu_backward(gate, up, d, factor, row_d_scale);
      store_once<in_bf16>(a.d_gate, row, c, a.width, gate);
      store_once<in_bf16>(a.d_up, row, c, a.width, up);
      if (a.y) store_once<in_bf16>(a.y, row, c, a.width, d);
    }
  }
  if (a.d_scale == nullptr) return;
  row_d_scale = warp_sum(row_d_scale);
  if (threadIdx.x % kWarp == 0) a.d_scale[a.scale_index[row]] = row_d_scale;
}

__global__ void rope_table_kernel(const int* positions, double theta, float* table, int64_t step, int64_t rows,
                                  int64_t head) {
  const int64_t half = head / 2;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t t = index / half, j = index % half;
  if (t >= rows) return;
  const double angle = positions[t] * pow(theta, -2.0 * static_cast<double>(j) / static_cast<double>(head));
  table[t * step + j] = static_cast<float>(cos(angle));
  table[t * step + half + j] = static_cast<float>(sin(angle));
}

/// A thread for each chunk of the first half of a head. `in_bf16`: x can be taken in Bf16Chunks.
template <bool in_bf16>
__global__ void rope_kernel(Matrix x, Matrix table, bool inverse, int64_t rows, int heads, int head) {
  let_next_start();
  wait_for_previous();
  const int half = head / 2, chunks = (half + kChunk - 1) / kChunk;
  const int64_t row = grid_row();
  const int at = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x), column = at % chunks * kChunk;
  if (row >= rows || at >= heads * chunks) return;
  const auto from = [](Matrix m, int64_t first) {
    m.data = static_cast<char*>(m.data) + first * (m.bf16 ? 2 : 4);
    m.wide = m.wide && first % kChunk == 0;
    return m;
  };
  const Matrix low = from(x, static_cast<int64_t>(at / chunks) * head), high = from(low, half);
  float x1[kChunk], x2[kChunk], c[kChunk], s[kChunk];
  load_chunk<in_bf16>(low, row, column, half, x1);
  load_chunk<in_bf16>(high, row, column, half, x2);
  cuda::load_chunk(table, row, column, half, c);
  cuda::load_chunk(from(table, half), row, column, half, s);
#pragma unroll
  for (int i = 0; i < kChunk; ++i) rotate(x1[i], x2[i], c[i], inverse ? -s[i] : s[i]);
  store_chunk<in_bf16>(low, row, column, half, x1);
  store_chunk<in_bf16>(high, row, column, half, x2);
}

__global__ void add_kernel(Matrix x, Matrix y, int64_t rows, int64_t width) {
  let_next_start();
  wait_for_previous();
  const int64_t row = grid_row(), c = grid_column();
  if (row >= rows || c >= width) return;
  float a[kChunk], b[kChunk];
  load_chunk(x, row, c, width, a);
  load_chunk(y, row, c, width, b);
#pragma unroll
  for (int i = 0; i < kChunk; ++i) b[i] += a[i];
  store_chunk(y, row, c, width, b);
}

const float* floats(const View& view) { return view ? view.as<const float>() : nullptr; }
const int* integers(const View& view) { return view ? view.as<const int32_t>() : nullptr; }

}  // namespace

template <>
void execute(Context& context, const SwiGlu& op) {
  const int64_t rows = op.y.size(0), width = op.y.size(1);
  const Matrix gate = matrix(op.gate_up), y = matrix(op.y);
  const bool in_bf16 = in_bf16_chunks(gate, width) && in_bf16_chunks(y, width);
  const RowGrid shape(rows, width);
  launch_early(context, in_bf16 ? swiglu_kernel<true> : swiglu_kernel<false>, shape.grid, shape.threads, 0,
               SwiGluArgs{.gate = gate,
                          .up = up_half(gate, width),
                          .scale = floats(op.scale),
                          .scale_index = integers(op.scale_index),
                          .row_count = integers(op.row_count),
                          .y = y,
                          .rows = rows,
                          .width = width});
}

template <>
void execute(Context& context, const SwiGluBackward& op) {
  const int64_t rows = op.dy.size(0), width = op.dy.size(1);
  const Matrix gate = matrix(op.gate_up), dy = matrix(op.dy), d_gate = matrix(op.d_gate_up), y = matrix(op.y);
  const bool in_bf16 = in_bf16_chunks(gate, width) && in_bf16_chunks(dy, width) && in_bf16_chunks(d_gate, width) &&
                       in_bf16_chunks(y, width);
  launch(context, in_bf16 ? swiglu_backward_kernel<true> : swiglu_backward_kernel<false>,
         blocks(ceil_div(rows, kWarps)), kThreads, 0,
         SwiGluBackwardArgs{.gate = gate,
                            .up = up_half(gate, width),
                            .scale = floats(op.scale),
                            .scale_index = integers(op.scale_index),
                            .row_count = integers(op.row_count),
                            .dy = dy,
                            .d_gate = d_gate,
                            .d_up = up_half(d_gate, width),
                            .y = y,
                            .d_scale = op.d_scale ? op.d_scale.as<float>() : nullptr,
                            .rows = rows,
                            .width = width});
}

template <>
void execute(Context& context, const RopeTable& op) {
  const int64_t rows = op.table.size(0), head = op.table.size(1);
  launch(context, rope_table_kernel, blocks(ceil_div(rows * (head / 2), kThreads)), kThreads, 0,
         op.positions.as<const int32_t>(), op.theta, op.table.as<float>(), op.table.stride[0], rows, head);
}

template <>
void execute(Context& context, const Rope& op) {
  const int64_t rows = op.x.size(0), head = op.table.size(1);
  const int64_t heads = head > 0 ? op.x.size(1) / head : 0;
  const RowGrid shape(rows, heads * ceil_div(head / 2, kChunk) * kChunk);
  const Matrix x = matrix(op.x);
  launch_early(context, in_bf16_chunks(x, head / 2) ? rope_kernel<true> : rope_kernel<false>, shape.grid, shape.threads,
               0, x, matrix(op.table), op.inverse, rows, static_cast<int>(heads), static_cast<int>(head));
}

template <>
void execute(Context& context, const Add& op) {
  const RowGrid shape(op.x.size(0), op.x.size(1));
  launch_early(context, add_kernel, shape.grid, shape.threads, 0, matrix(op.x), matrix(op.y), op.x.size(0),
               op.x.size(1));
}

}  // namespace moe::cuda
