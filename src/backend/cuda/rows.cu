#include "backend/cuda/kernel.cuh"
#include "ops/rows.h"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kWarps = kThreads / kWarp;

/// Widest first: enough threads for one chunk each, up to kThreads.
unsigned threads_for(int64_t width) {
  unsigned threads = kWarp;
  while (threads < kThreads && static_cast<int64_t>(threads) * kChunk < width) threads *= 2;
  return threads;
}

/// One block per row. The statistics are of the sum as stored.
__global__ void rms_norm_kernel(Matrix x, Matrix residual, Matrix sum, Matrix gain, float eps, Matrix y, float* inv_rms,
                                int64_t width) {
  __shared__ float shared[kWarps];
  const int64_t row = blockIdx.x;
  float v[kChunk], other[kChunk], squares = 0;
  for (int64_t c = threadIdx.x * kChunk; c < width; c += blockDim.x * kChunk) {
    load_chunk(x, row, c, width, v);
    if (residual) {
      load_chunk(residual, row, c, width, other);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) v[i] = rounded(sum, v[i] + other[i]);
      store_chunk(sum, row, c, width, v);
    }
#pragma unroll
    for (int i = 0; i < kChunk; ++i) squares += v[i] * v[i];
  }
  squares = block_sum(squares, shared);
  const float scale = 1 / sqrtf(squares / static_cast<float>(width) + eps);
  if (threadIdx.x == 0) inv_rms[row] = scale;
  for (int64_t c = threadIdx.x * kChunk; c < width; c += blockDim.x * kChunk) {
    load_chunk(residual ? sum : x, row, c, width, v);
    load_chunk(gain, 0, c, width, other);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) v[i] = other[i] * rounded(y, v[i] * scale);
    store_chunk(y, row, c, width, v);
  }
}

/// Block b takes rows b, b + gridDim.x, ...; each thread owns the same columns in every row, so that dgain's partial
/// sum (one per block, in shared memory) needs no other thread.
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

__global__ void add_partials_kernel(const float* partials, int64_t count, float* total, int64_t width) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= width) return;
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += partials[i * width + c];
  total[c] += sum;
}

/// 1 / (1 + exp(-z)) without overflow: its relative error is small where the value is, too.
__device__ float sigmoid_of(float z) {
  const float e = expf(-fabsf(z));
  return (z < 0 ? e : 1.0f) / (1 + e);
}

/// The rows that SwiGlu and its backward compute: fewer than all where row_count says so.
__device__ bool row_is_active(int64_t row, const int* row_count) { return row_count == nullptr || row < *row_count; }

__device__ float scale_of(const float* scale, const int* scale_index, int64_t row) {
  return scale == nullptr ? 1.0f : scale[scale_index[row]];
}

/// One thread per chunk.
__global__ void swiglu_kernel(Matrix gate_up, const float* scale, const int* scale_index, const int* row_count,
                              Matrix y, int64_t rows, int64_t width) {
  const int64_t chunks = (width + kChunk - 1) / kChunk;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t row = index / chunks, c = index % chunks * kChunk;
  if (row >= rows || !row_is_active(row, row_count)) return;
  Matrix up_half = gate_up;  // the up projection starts `width` elements later
  up_half.data = static_cast<char*>(gate_up.data) + width * (gate_up.half ? 2 : 4);
  up_half.wide = gate_up.wide && width % kChunk == 0;
  const float factor = scale_of(scale, scale_index, row);
  float gate[kChunk], up[kChunk];
  load_chunk(gate_up, row, c, width, gate);
  load_chunk(up_half, row, c, width, up);
#pragma unroll
  for (int i = 0; i < kChunk; ++i) gate[i] = factor * (gate[i] * sigmoid_of(gate[i]) * up[i]);
  store_chunk(y, row, c, width, gate);
}

/// One warp per row.
__global__ void swiglu_backward_kernel(Matrix gate_up, const float* scale, const int* scale_index, const int* row_count,
                                       Matrix dy, Matrix d_gate_up, Matrix y, float* d_scale, int64_t rows,
                                       int64_t width) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / kWarp) + threadIdx.x / kWarp;
  if (row >= rows || !row_is_active(row, row_count)) return;
  const auto second_half = [width](Matrix m) {
    m.data = static_cast<char*>(m.data) + width * (m.half ? 2 : 4);
    m.wide = m.wide && width % kChunk == 0;
    return m;
  };
  const Matrix up_half = second_half(gate_up), d_up_half = second_half(d_gate_up);
  const float factor = scale_of(scale, scale_index, row);
  float row_d_scale = 0;
  for (int64_t c = threadIdx.x % kWarp * kChunk; c < width; c += kWarp * kChunk) {
    float gate[kChunk], up[kChunk], d[kChunk], value[kChunk];
    load_chunk(gate_up, row, c, width, gate);
    load_chunk(up_half, row, c, width, up);
    load_chunk(dy, row, c, width, d);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const float sigmoid = sigmoid_of(gate[i]);
      const float activation = gate[i] * sigmoid;
      value[i] = factor * (activation * up[i]);
      row_d_scale += d[i] * (activation * up[i]);
      const float scaled = factor * d[i];
      const float d_gate = scaled * up[i] * (sigmoid * (1 + gate[i] * (1 - sigmoid)));
      up[i] = scaled * activation;
      gate[i] = d_gate;
    }
    store_chunk(d_gate_up, row, c, width, gate);
    store_chunk(d_up_half, row, c, width, up);
    if (y) store_chunk(y, row, c, width, value);
  }
  if (d_scale == nullptr) return;
  row_d_scale = warp_sum(row_d_scale);
  if (threadIdx.x % kWarp == 0) d_scale[scale_index[row]] = row_d_scale;
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

/// One thread per chunk of the first half of a head.
__global__ void rope_kernel(Matrix x, Matrix table, bool inverse, int64_t rows, int64_t heads, int64_t head) {
  const int64_t half = head / 2, chunks = (half + kChunk - 1) / kChunk;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t row = index / (heads * chunks), column = index % chunks * kChunk;
  if (row >= rows) return;
  const auto from = [](Matrix m, int64_t first) {
    m.data = static_cast<char*>(m.data) + first * (m.half ? 2 : 4);
    m.wide = m.wide && first % kChunk == 0;
    return m;
  };
  const Matrix low = from(x, index / chunks % heads * head), high = from(low, half);
  float x1[kChunk], x2[kChunk], c[kChunk], s[kChunk];
  load_chunk(low, row, column, half, x1);
  load_chunk(high, row, column, half, x2);
  load_chunk(table, row, column, half, c);
  load_chunk(from(table, half), row, column, half, s);
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    const float sine = inverse ? -s[i] : s[i];
    const float first = x1[i] * c[i] - x2[i] * sine;
    x2[i] = x2[i] * c[i] + x1[i] * sine;
    x1[i] = first;
  }
  store_chunk(low, row, column, half, x1);
  store_chunk(high, row, column, half, x2);
}

__global__ void add_kernel(Matrix x, Matrix y, int64_t rows, int64_t width) {
  const int64_t chunks = (width + kChunk - 1) / kChunk;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t row = index / chunks, c = index % chunks * kChunk;
  if (row >= rows) return;
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
void execute(Context& context, const RmsNorm& op) {
  const int64_t width = op.x.size(1);
  launch(context, rms_norm_kernel, blocks(op.x.size(0)), threads_for(width), 0, matrix(op.x), matrix(op.residual),
         matrix(op.sum), matrix(op.gain), op.eps, matrix(op.y), op.inv_rms.as<float>(), width);
}

template <>
void execute(Context& context, const RmsNormBackward& op) {
  const int64_t rows = op.x.size(0), width = op.x.size(1);
  constexpr int64_t kMostBlocks = 512;   // of the shape alone: the order of the sums is the same on every GPU
  constexpr int64_t kMostWidth = 12000;  // dgain in 48 KiB of shared memory
  if (width > kMostWidth) fail("rms_norm_backward: the width is {}, and on a GPU at most {}", width, kMostWidth);
  const int64_t parts = std::min(rows, kMostBlocks);
  if (width == 0 || parts == 0) return;
  auto* const partials = Carver(context, RmsNormBackward::name).take<float>(parts * width);
  launch(context, rms_norm_backward_kernel, blocks(parts), threads_for(width),
         static_cast<size_t>(width) * sizeof(float), matrix(op.dy), matrix(op.x), matrix(op.gain),
         op.inv_rms.as<const float>(), matrix(op.dx), partials, rows, width);
  launch(context, add_partials_kernel, blocks(ceil_div(width, kWarp)), kWarp, 0, partials, parts, op.dgain.as<float>(),
         width);
}

template <>
void execute(Context& context, const SwiGlu& op) {
  const int64_t rows = op.y.size(0), width = op.y.size(1);
  launch(context, swiglu_kernel, blocks(ceil_div(rows * ceil_div(width, kChunk), kThreads)), kThreads, 0,
         matrix(op.gate_up), floats(op.scale), integers(op.scale_index), integers(op.row_count), matrix(op.y), rows,
         width);
}

template <>
void execute(Context& context, const SwiGluBackward& op) {
  const int64_t rows = op.dy.size(0), width = op.dy.size(1);
  launch(context, swiglu_backward_kernel, blocks(ceil_div(rows, kWarps)), kThreads, 0, matrix(op.gate_up),
         floats(op.scale), integers(op.scale_index), integers(op.row_count), matrix(op.dy), matrix(op.d_gate_up),
         matrix(op.y), op.d_scale ? op.d_scale.as<float>() : nullptr, rows, width);
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
  launch(context, rope_kernel, blocks(ceil_div(rows * heads * ceil_div(head / 2, kChunk), kThreads)), kThreads, 0,
         matrix(op.x), matrix(op.table), op.inverse, rows, heads, head);
}

template <>
void execute(Context& context, const Add& op) {
  const int64_t rows = op.x.size(0), width = op.x.size(1);
  launch(context, add_kernel, blocks(ceil_div(rows * ceil_div(width, kChunk), kThreads)), kThreads, 0, matrix(op.x),
         matrix(op.y), rows, width);
}

}  // namespace moe::cuda
