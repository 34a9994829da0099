// Attention over cached keys in f32 arithmetic: any types, head sizes and alignments. A job is one query of one head.
// Some neighbouring threads share a key, eight elements each, and take four keys at a time. Each such group has sums of
// its own, which are added at the end of a head.

#include "backend/cuda/cached_split.cuh"

namespace moe::cuda {
namespace {

constexpr int kThreads = kCachedThreads;
constexpr int kAtOnce = 4;  ///< keys
constexpr float kLog2e = 1.4426950408889634f;

/// A cache [N, P, C]: the rows of the first page, and the elements from one page to the next.
struct Cache {
  Matrix first;
  int64_t page_step;

  __device__ void load(int page, int line, int64_t column, int64_t end, float (&out)[kChunk]) const {
    Matrix rows = first;
    rows.data = static_cast<char*>(first.data) + page * page_step * (first.bf16 ? 2 : 4);
    load_chunk(rows, line, column, end, out);
  }
};
Cache cache_of(const View& view, int head_size) {
  if (view.elements() == 0) return {matrix(View(view.data, view.dtype, {0, 0})), 0};
  Matrix first = matrix(view.at(0));
  first.wide = first.wide && view.stride[0] % kChunk == 0 && head_size % kChunk == 0;
  return {first, view.stride[0]};
}

template <bool kWholeHeads>
__global__ void __launch_bounds__(kThreads, kSimtDecodeEach)
    simt_kernel(const CachedTask task, const Cache k, const Cache v, int lanes) {
  __shared__ OwnPlan own;
  __shared__ __align__(16) float sums[kThreads * kChunk];  // [group][lanes * kChunk]
  __shared__ float factors[kThreads], largest[1], total[1];
  const Plan plan = plan_of(task, own);
  const int heads = task.shape.heads, size = task.shape.head_size;
  const KeySplit split = split_of<kWholeHeads>(plan, heads);
  const int thread = static_cast<int>(threadIdx.x), group = thread / lanes, groups = kThreads / lanes;
  const int chunk = thread % lanes;
  const float scale = task.shape.scale * kLog2e;  // exponentials to the base 2
  for (int round = 0;; ++round) {
    const auto [begin, end] = BlockPart::of<kWholeHeads>(plan, split, heads, round);
    if (begin == end) break;
    KeyCursor at = KeyCursor::at(plan, begin, heads);
    for (int64_t left = end - begin; left > 0;) {
      const int count = static_cast<int>(min(int64_t{at.tiles - at.tile}, left));
      const int64_t q_head = int64_t{at.head} * size;
      const int64_t kv_head = int64_t{at.head * task.shape.kv_heads / heads} * size;
      const int64_t column = kv_head + chunk * kChunk, column_end = kv_head + size;
      float query[kChunk], sum[kChunk] = {}, most = -INFINITY, weights = 0;
      load_chunk(task.q, at.run.token, q_head + chunk * kChunk, q_head + size, query);
      const int key_end = min((at.tile + count) * kTileKeys, at.run.position + 1);
      for (int first = at.tile * kTileKeys; first < key_end; first += groups * kAtOnce) {
        int page[kAtOnce], line[kAtOnce];
        float score[kAtOnce], found = most, x[kAtOnce][kChunk];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          const int key = first + i * groups + group;
          page[i] = key < key_end ? task.pages.of(at.run.sequence, key) : -1;
          line[i] = key % task.pages.tokens;
          if (page[i] >= 0) k.load(page[i], line[i], column, column_end, x[i]);
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          score[i] = 0;
          if (page[i] >= 0) {
#pragma unroll
            for (int d = 0; d < kChunk; ++d) score[i] = fmaf(query[d], x[i][d], score[i]);
          }
          for (int apart = lanes / 2; apart > 0; apart /= 2) {
            score[i] += __shfl_xor_sync(0xffffffffu, score[i], apart);
          }
          score[i] = page[i] >= 0 ? score[i] * scale : -INFINITY;
          found = fmaxf(found, score[i]);
          if (page[i] >= 0) v.load(page[i], line[i], column, column_end, x[i]);
        }
        if (found == -INFINITY) continue;
        const float shrink = exp2f(most - found);
        most = found;
        weights *= shrink;
#pragma unroll
        for (float& s : sum) s *= shrink;
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          if (page[i] < 0) continue;
          const float weight = exp2f(score[i] - most);
          weights += weight;
#pragma unroll
          for (int d = 0; d < kChunk; ++d) sum[d] = fmaf(weight, x[i][d], sum[d]);
        }
      }
#pragma unroll
      for (int d = 0; d < kChunk; ++d) sums[thread * kChunk + d] = sum[d];
      if (chunk == 0) factors[group] = most;
      __syncthreads();
      float all_most = -INFINITY;
      for (int i = 0; i < groups; ++i) all_most = fmaxf(all_most, factors[i]);
      __syncthreads();
      // A thread of each group makes its factor; their weights are added in the groups' order.
      __shared__ float group_weights[kThreads];
      if (chunk == 0) {
        const float factor = exp2f(most - all_most);
        factors[group] = factor;
        group_weights[group] = weights * factor;
      }
      __syncthreads();
      if (thread == 0) {
        float all = 0;
        for (int i = 0; i < groups; ++i) all += group_weights[i];
        largest[0] = all_most;
        total[0] = all;
      }
      __syncthreads();
      const auto value = [&](int, int of_chunk, float(&out)[kChunk]) {
#pragma unroll
        for (float& x : out) x = 0;
        for (int i = 0; i < groups; ++i) {
          const float* const from = sums + (i * lanes + of_chunk) * kChunk;
#pragma unroll
          for (int d = 0; d < kChunk; ++d) out[d] = fmaf(factors[i], from[d], out[d]);
        }
      };
      const auto store = [&](int, int of_chunk, const float(&in)[kChunk]) {
        store_chunk(task.out, at.run.token, q_head + of_chunk * kChunk, q_head + size, in);
      };
      finish_head<1>(task, split, at.first_tile(plan, heads), at.tiles, 1, largest, total, value, store);
      __syncthreads();
      at.advance(plan, heads, count);
      left -= count;
    }
  }
  clear_masked(task);
}

}  // namespace

void simt_decode(Context& context, const CachedTask& task, const CachedAttention& op) {
  int lanes = 1;
  while (lanes * kChunk < task.shape.head_size) lanes *= 2;
  CachedTask aligned = task;  // chunks of heads
  aligned.q.wide = task.q.wide && task.shape.head_size % kChunk == 0;
  aligned.out.wide = task.out.wide && task.shape.head_size % kChunk == 0;
  launch(context, task.whole_heads ? simt_kernel<true> : simt_kernel<false>,
         blocks(cached_blocks(context, kSimtDecodeEach)), kThreads, 0, aligned,
         cache_of(op.k_cache, task.shape.head_size), cache_of(op.v_cache, task.shape.head_size), lanes);
}

}  // namespace moe::cuda
