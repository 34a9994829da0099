#include "backend/cuda/kernel.cuh"
#include "backend/cuda/sort.h"
#include "backend/cuda/weight_element.cuh"
#include "ops/embedding_loss.h"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 256;

__global__ void embed_kernel(const int* tokens, Matrix table, Matrix y, int64_t rows, int64_t width) {
  const int64_t row = grid_row(), c = grid_column();
  if (row >= rows || c >= width) return;
  float v[kChunk];
  load_chunk(table, tokens[row], c, width, v);
  store_chunk(y, row, c, width, v);
}

__global__ void embed_other_kernel(const int* tokens, DType type, const void* table, int64_t step, Matrix y,
                                   int64_t rows, int64_t width) {
  const int64_t row = grid_row(), c = grid_column();
  if (row >= rows || c >= width) return;
  float v[kChunk];
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    v[i] = c + i < width ? weight_element(type, table, tokens[row] * step + c + i) : 0.0f;
  }
  store_chunk(y, row, c, width, v);
}

/// Equal tokens are adjacent. A run longer than `piece` is added in pieces, so that a very common token (such as
/// padding) delays nothing. A piece is identified by the place of its first row.
struct Pieces {
  Sorted sorted;
  int rows, piece;
  float* sums;  ///< [2 places a piece of all rows, width]
  int64_t width;

  __device__ int key(int i) const { return sorted.keys[i]; }
  /// The first place from `first` on whose token is larger than, or not smaller than, that at `first`.
  __device__ int run_begin(int i) const {
    int low = 0, high = i;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (key(middle) < key(i)) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
  /// True if a run is divided: then its rows are in more than one piece.
  __device__ bool is_long(int begin) const { return begin + piece < rows && key(begin + piece) == key(begin); }
  __device__ float* sum(int begin, int i) const {
    return sums + (2 * (i / piece) + (begin == i ? 1 : 0)) * width;  // two long runs never share a place
  }
};

/// A block for each row. The blocks at the first row of a piece add the piece, in the order of t. A run with only one
/// piece goes directly into the table.
__global__ void embed_backward_kernel(Pieces p, Matrix dy, Matrix d_table) {
  const int first = static_cast<int>(blockIdx.x), token = p.key(first);
  const bool starts = first == 0 || p.key(first - 1) != token;
  int begin = first;
  if (!starts) {
    if (first < p.piece || p.key(first - p.piece) != token) return;  // inside its run's first piece
    begin = p.run_begin(first);
    if ((first - begin) % p.piece != 0) return;
  }
  const bool alone = starts && !p.is_long(first);
  const int end = min(first + p.piece, p.rows);
  for (int64_t c = threadIdx.x * kChunk; c < p.width; c += blockDim.x * kChunk) {
    float sum[kChunk] = {}, d[kChunk];
    if (alone) load_chunk(d_table, token, c, p.width, sum);
    for (int i = first; i < end && p.key(i) == token; ++i) {
      load_chunk(dy, p.sorted.places[i], c, p.width, d);
#pragma unroll
      for (int j = 0; j < kChunk; ++j) sum[j] += d[j];
    }
    if (alone) {
      store_chunk(d_table, token, c, p.width, sum);
    } else {
      float* const to = p.sum(begin, first) + c;
      for (int j = 0; j < kChunk && c + j < p.width; ++j) to[j] = sum[j];
    }
  }
}

/// Adds the pieces of long runs to the table, in order.
__global__ void embed_pieces_kernel(Pieces p, Matrix d_table) {
  const int begin = static_cast<int>(blockIdx.x), token = p.key(begin);
  if ((begin > 0 && p.key(begin - 1) == token) || !p.is_long(begin)) return;
  for (int64_t c = threadIdx.x; c < p.width; c += blockDim.x) {
    float sum = load(d_table, token, c);
    for (int i = begin; i < p.rows && p.key(i) == token; i += p.piece) sum += p.sum(begin, i)[c];
    store(d_table, token, c, sum);
  }
}

/// One block per row. Each thread keeps the largest logit it has seen and the sum of exponentials relative to it.
__global__ void cross_entropy_kernel(Matrix logits, const int* targets, const float* weights,
                                     const float* gradient_scale, Matrix d_logits, float* row_loss, int64_t width) {
  __shared__ float shared[kThreads / kWarp];
  const int64_t row = blockIdx.x;
  const int target = targets[row];
  float v[kChunk];
  if (target < 0) {
    if (threadIdx.x == 0) row_loss[row] = 0;
    if (gradient_scale == nullptr) return;
    for (float& value : v) value = 0;
    for (int64_t c = threadIdx.x * kChunk; c < width; c += blockDim.x * kChunk) store_chunk(d_logits, row, c, width, v);
    return;
  }
  float largest = -INFINITY, sum = 0;
  for (int64_t c = threadIdx.x * kChunk; c < width; c += blockDim.x * kChunk) {
    load_chunk(logits, row, c, width, v);
    const int count = static_cast<int>(width - c < kChunk ? width - c : kChunk);
    float chunk_largest = v[0];
#pragma unroll
    for (int i = 1; i < kChunk; ++i) chunk_largest = i < count ? fmaxf(chunk_largest, v[i]) : chunk_largest;
    if (chunk_largest > largest) {
      sum *= expf(largest - chunk_largest);
      largest = chunk_largest;
    }
    const float base = largest == -INFINITY ? 0.0f : largest;  // only -inf so far: its exponentials are 0
#pragma unroll
    for (int i = 0; i < kChunk; ++i) sum += i < count ? expf(v[i] - base) : 0.0f;
  }
  const float row_largest = block_max(largest, shared);
  sum = block_sum(largest == -INFINITY ? sum : sum * expf(largest - row_largest), shared);
  if (threadIdx.x == 0) {
    const float loss = logf(sum) + (row_largest - load(logits, row, target));
    row_loss[row] = weights == nullptr ? loss : weights[row] * loss;
  }
  if (gradient_scale == nullptr) return;
  __syncthreads();  // the target's logit has been read, so d_logits may be in the same memory
  const float scale = weights == nullptr ? *gradient_scale : weights[row] * *gradient_scale;
  const float inverse = 1 / sum;
  for (int64_t c = threadIdx.x * kChunk; c < width; c += blockDim.x * kChunk) {
    load_chunk(logits, row, c, width, v);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const float p = expf(v[i] - row_largest) * inverse;
      v[i] = scale * (p - (c + i == target ? 1.0f : 0.0f));
    }
    store_chunk(d_logits, row, c, width, v);
  }
}

}  // namespace

template <>
void execute(Context& context, const Embed& op) {
  const int64_t rows = op.y.size(0), width = op.y.size(1);
  const RowGrid shape(rows, width);
  if (is_other_weight(op.table.dtype)) {
    launch(context, embed_other_kernel, shape.grid, shape.threads, 0, op.tokens.as<const int32_t>(), op.table.dtype,
           op.table.data, op.table.stride[0], matrix(op.y), rows, width);
    return;
  }
  launch(context, embed_kernel, shape.grid, shape.threads, 0, op.tokens.as<const int32_t>(), matrix(op.table),
         matrix(op.y), rows, width);
}

template <>
void execute(Context& context, const EmbedBackward& op) {
  const int64_t rows = op.dy.size(0), width = op.dy.size(1);
  if (rows == 0 || width == 0) return;
  Carver carver(context, EmbedBackward::name);
  auto* const keys = carver.take<int>(rows);
  check(cudaMemcpyAsync(keys, op.tokens.data, op.tokens.bytes(), cudaMemcpyDeviceToDevice, context.stream),
        "copying tokens");
  const Sorted sorted = sort_by_key(context, carver, keys, rows, op.d_table.size(0));
  constexpr int64_t kSumBytes = int64_t{16} << 20;
  int64_t piece = 64;  // depends only on the shape, so that the order of the sums is the same on every GPU
  const auto places = [&] { return 2 * ceil_div(rows, piece); };
  while (places() * width * static_cast<int64_t>(sizeof(float)) > kSumBytes && piece < rows) piece *= 2;
  const Pieces pieces{.sorted = sorted,
                      .rows = static_cast<int>(rows),
                      .piece = static_cast<int>(piece),
                      .sums = carver.take<float>(places() * width),
                      .width = width};
  launch(context, embed_backward_kernel, blocks(rows), kWarp * 4, 0, pieces, matrix(op.dy), matrix(op.d_table));
  if (piece < rows) launch(context, embed_pieces_kernel, blocks(rows), kWarp * 4, 0, pieces, matrix(op.d_table));
}

template <>
void execute(Context& context, const CrossEntropy& op) {
  launch(context, cross_entropy_kernel, blocks(op.logits.size(0)), kThreads, 0, matrix(op.logits),
         op.targets.as<const int32_t>(), op.weights ? op.weights.as<const float>() : nullptr,
         op.gradient_scale ? op.gradient_scale.as<const float>() : nullptr, matrix(op.d_logits),
         op.row_loss.as<float>(), op.logits.size(1));
}

}  // namespace moe::cuda
