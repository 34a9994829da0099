#include "backend/cuda/attention.h"
#include "backend/cuda/kernel.cuh"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kEach = static_cast<int>(kMostHeadSize) / kWarp;  ///< elements of a head per lane

/// A cache [N, P, C]: the rows of the first page, and the number of elements from one page to the next.
struct Cache {
  Matrix first;
  int64_t step;

  __device__ Matrix page(int number) const {
    Matrix rows = first;
    rows.data = static_cast<char*>(first.data) + number * step * (first.bf16 ? 2 : 4);
    rows.wide = first.wide && step % kChunk == 0;
    return rows;
  }
};

/// The page table [S, M].
struct Pages {
  const int* table;
  int64_t step;
  int tokens;  ///< P

  __device__ int of(int sequence, int position) const { return table[sequence * step + position / tokens]; }
};

Cache cache_of(const View& view) {
  if (view.elements() == 0) return {matrix(View(view.data, view.dtype, {0, 0})), 0};
  return {matrix(view.at(0)), view.stride[0]};
}

Pages pages_of(const View& pages, const View& cache) {
  return {pages.as<const int32_t>(), pages.stride[0], static_cast<int>(cache.size(1))};
}

__global__ void append_kernel(Matrix x, const int* sequence, const int* positions, Pages pages, Cache cache,
                              int64_t tokens, int64_t width) {
  const int64_t chunks = (width + kChunk - 1) / kChunk;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t t = index / chunks, c = index % chunks * kChunk;
  if (t >= tokens || sequence[t] < 0) return;
  float v[kChunk];
  load_chunk(x, t, c, width, v);
  const int position = positions[t];
  store_chunk(cache.page(pages.of(sequence[t], position)), position % pages.tokens, c, width, v);
}

/// The sums of a warp over its keys.
struct Partial {
  float largest, total;
  float sum[kEach];
};

/// A block per token and head. Warp w takes keys w, w + kWarps, ...; the warps' sums are merged in their order.
__global__ void __launch_bounds__(kThreads) cached_kernel(Matrix q, Cache k_cache, Cache v_cache, const int* sequence,
                                                          const int* positions, Pages pages, Matrix out,
                                                          AttentionShape shape) {
  __shared__ float largest[kWarps], total[kWarps], sums[kWarps][kMostHeadSize];
  const int64_t t = blockIdx.x;
  const int head = static_cast<int>(blockIdx.y), size = shape.head_size;
  const int64_t q_column = static_cast<int64_t>(head) * size;
  const int64_t kv_column = static_cast<int64_t>(head * shape.kv_heads / shape.heads) * size;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  if (sequence[t] < 0) {
    for (int d = static_cast<int>(threadIdx.x); d < size; d += kThreads) store(out, t, q_column + d, 0.0f);
    return;
  }
  float query[kEach];
  Partial mine{-INFINITY, 0, {}};
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int d = lane + i * kWarp;
    query[i] = d < size ? load(q, t, q_column + d) : 0.0f;
  }
  for (int key = warp; key <= positions[t]; key += kWarps) {
    const int page = pages.of(sequence[t], key), row = key % pages.tokens;
    const Matrix k = k_cache.page(page), v = v_cache.page(page);
    float score = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int d = lane + i * kWarp;
      if (d < size) score = fmaf(query[i], load(k, row, kv_column + d), score);
    }
    score = shape.scale * warp_sum(score);
    const float new_largest = fmaxf(mine.largest, score);
    const float shrink = expf(mine.largest - new_largest), weight = expf(score - new_largest);
    mine.total = mine.total * shrink + weight;
    mine.largest = new_largest;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int d = lane + i * kWarp;
      if (d < size) mine.sum[i] = fmaf(weight, load(v, row, kv_column + d), mine.sum[i] * shrink);
    }
  }
  if (lane == 0) largest[warp] = mine.largest, total[warp] = mine.total;
#pragma unroll
  for (int i = 0; i < kEach; ++i) sums[warp][lane + i * kWarp] = mine.sum[i];
  __syncthreads();
  float all_largest = -INFINITY;
  for (int w = 0; w < kWarps; ++w) all_largest = fmaxf(all_largest, largest[w]);
  for (int d = static_cast<int>(threadIdx.x); d < size; d += kThreads) {
    float sum = 0, weight = 0;
    for (int w = 0; w < kWarps; ++w) {
      const float factor = expf(largest[w] - all_largest);
      sum += sums[w][d] * factor;
      weight += total[w] * factor;
    }
    store(out, t, q_column + d, sum / weight);
  }
}

}  // namespace

template <>
void execute(Context& context, const KvAppend& op) {
  constexpr unsigned kCopyThreads = 256;
  const int64_t tokens = op.k.size(0), width = op.k.size(1);
  const dim3 grid = blocks(ceil_div(tokens * ceil_div(width, kChunk), kCopyThreads));
  for (const auto& [x, cache] : {std::pair{op.k, op.k_cache}, std::pair{op.v, op.v_cache}}) {
    launch(context, append_kernel, grid, kCopyThreads, 0, matrix(x), op.sequence.as<const int32_t>(),
           op.positions.as<const int32_t>(), pages_of(op.pages, cache), cache_of(cache), tokens, width);
  }
}

template <>
void execute(Context& context, const CachedAttention& op) {
  const AttentionShape shape{.tokens = op.q.size(0),
                             .heads = op.heads,
                             .kv_heads = op.kv_heads,
                             .head_size = static_cast<int>(op.q.size(1) / op.heads),
                             .scale = op.scale,
                             .max_segment = op.pages.size(1) * op.k_cache.size(1)};
  if (shape.head_size > kMostHeadSize) {
    fail("{}: heads are of size {}, and on a GPU at most {}", CachedAttention::name, shape.head_size, kMostHeadSize);
  }
  dim3 grid = blocks(shape.tokens);
  grid.y = static_cast<unsigned>(shape.heads);
  launch(context, cached_kernel, grid, kThreads, 0, matrix(op.q), cache_of(op.k_cache), cache_of(op.v_cache),
         op.sequence.as<const int32_t>(), op.positions.as<const int32_t>(), pages_of(op.pages, op.k_cache),
         matrix(op.out), shape);
}

}  // namespace moe::cuda
