#pragma once
/// The part of a decoding kernel that does not depend on how it computes scores: a block's way through its tiles of
/// keys, and the end of each head of a job.

#include "backend/cuda/cached_attention.cuh"

namespace moe::cuda {

/// A block's place among the tiles. All threads of the block move together.
struct KeyCursor {
  int job, head, tile, tiles;
  Run run;

  /// `heads`: how many are counted for each job.
  __device__ static KeyCursor at(const Plan& plan, int64_t place, int heads) {
    int low = 0, high = plan.totals->jobs;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (plan.before[middle] * heads <= place ? low : high) = middle;
    }
    KeyCursor result{};
    result.job = low;
    result.run = plan.jobs[low];
    result.tiles = result.run.tiles();
    const int64_t rest = place - plan.before[low] * heads;
    result.head = static_cast<int>(rest / result.tiles);
    result.tile = static_cast<int>(rest % result.tiles);
    return result;
  }
  __device__ void advance(const Plan& plan, int heads, int count = 1) {
    tile += count;
    if (tile < tiles) return;
    tile = 0;
    if (++head < heads) return;
    head = 0;
    if (++job >= plan.totals->jobs) return;
    run = plan.jobs[job];
    tiles = run.tiles();
  }
  /// The number of the head's first tile among all.
  __device__ int64_t first_tile(const Plan& plan, int heads) const {
    return plan.before[job] * heads + int64_t{head} * tiles;
  }
};

/// A block's tiles of keys of a round: in the first one all those of the split, or with whole heads, in each round
/// those of one head of a job. Nothing behind the last round.
struct BlockPart {
  int64_t begin = 0, end = 0;

  template <bool kWholeHeads>
  __device__ static BlockPart of(const Plan& plan, const KeySplit& split, int heads, int round) {
    const int block = static_cast<int>(blockIdx.x);
    if constexpr (!kWholeHeads) {
      return round > 0 ? BlockPart{} : BlockPart{split.begin(block), split.begin(block + 1)};
    } else {
      const int64_t item = block + int64_t{round} * gridDim.x;
      if (item >= int64_t{plan.totals->jobs} * heads) return {};
      const int job = static_cast<int>(item / heads), tiles = plan.jobs[job].tiles();
      const int64_t begin = plan.before[job] * heads + item % heads * tiles;
      return {begin, begin + tiles};
    }
  }
};

/// The division of all tiles; with whole heads there is none.
template <bool kWholeHeads>
__device__ KeySplit split_of(const Plan& plan, int heads) {
  const int64_t total = plan.totals->tiles * heads;
  if constexpr (kWholeHeads) return {total, INT64_MAX};
  return KeySplit::of(total, plan.totals->longest, static_cast<int>(gridDim.x));
}

/// Memory of a block's own plan.
struct OwnPlan {
  Run jobs[kFewTokens];
  int64_t before[kFewTokens];
  PlanTotals totals;
};

/// The call's plan, made here where it is not in memory.
__device__ inline Plan plan_of(const CachedTask& task, OwnPlan& own) {
  if (task.plan.jobs != nullptr) return task.plan;
  const Plan plan{own.jobs, own.before, nullptr, &own.totals};
  if (task.task.tokens > kWarp) {
    make_plan<kCachedThreads>(task.task, plan);
  } else if (threadIdx.x < kWarp) {
    make_plan<kWarp>(task.task, plan);
  }
  __syncthreads();
  return plan;
}

/// Writes zeros for masked tokens, a warp for each 32, beginning in the last block, which has the least other work.
__device__ inline void clear_masked(const CachedTask& task) {
  constexpr int kWarps = kCachedThreads / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t width = int64_t{task.shape.heads} * task.shape.head_size;
  constexpr float kZeros[kChunk] = {};
  for (int64_t base = (int64_t{gridDim.x - 1 - blockIdx.x} * kWarps + warp) * kWarp; base < task.task.tokens;
       base += int64_t{gridDim.x} * kWarps * kWarp) {
    const bool masked = base + lane < task.task.tokens && task.sequence[base + lane] < 0;
    for (unsigned rest = __ballot_sync(0xffffffffu, masked); rest != 0; rest &= rest - 1) {
      const int64_t t = base + __ffs(static_cast<int>(rest)) - 1;
      for (int64_t c = lane * kChunk; c < width; c += kWarp * kChunk) store_chunk(task.out, t, c, width, kZeros);
    }
  }
}

/// Ends the block's part of a head of a job. `rows` results of the head's size, at most kRows; value(row, chunk, v)
/// gives eight elements of a row's sum, largest[row] and total[row] the rest; store(row, chunk, v) takes the result.
/// The block has synchronised before, and must do so afterwards.
template <int kRows, class Value, class Store>
__device__ void finish_head(const CachedTask& task, const KeySplit& split, int64_t first_tile, int tiles, int rows,
                            const float* largest, const float* total, const Value& value, const Store& store) {
  __shared__ float factors[kRows][kMostPieces], parts[kCachedThreads][kChunk];
  __shared__ bool adds_up;
  const SharedSums& shared = task.shared;
  const int chunks = (task.shape.head_size + kChunk - 1) / kChunk, thread = static_cast<int>(threadIdx.x);
  const int first = split.first_block(first_tile), last = split.last_block(first_tile, tiles);
  float v[kChunk];
  if (first == last) {
    for (int i = thread; i < rows * chunks; i += kCachedThreads) {
      const int row = i / chunks;
      value(row, i % chunks, v);
#pragma unroll
      for (float& x : v) x /= total[row];
      store(row, i % chunks, v);
    }
    return;
  }
  const int64_t mine = place_of_sums(static_cast<int>(blockIdx.x), first);
  const auto sums_at = [&](int64_t place, int row, int chunk) {
    return reinterpret_cast<float4*>(shared.sums + (place * kRows + row) * shared.width + chunk * kChunk);
  };
  for (int i = thread; i < rows * chunks; i += kCachedThreads) {
    value(i / chunks, i % chunks, v);
    float4* const to = sums_at(mine, i / chunks, i % chunks);
    to[0] = make_float4(v[0], v[1], v[2], v[3]);
    to[1] = make_float4(v[4], v[5], v[6], v[7]);
  }
  if (thread < rows) shared.stats[mine * kRows + thread] = make_float2(largest[thread], total[thread]);
  __threadfence();
  __syncthreads();
  if (thread == 0) {
    adds_up = atomicAdd(shared.arrived + first, 1) == last - first;
    if (adds_up) shared.arrived[first] = 0;
  }
  __syncthreads();
  if (!adds_up) return;
  __threadfence();

  // A thread has eight elements of a row, or of some of its pieces where there are few. What counts is how often it
  // waits for memory: the first sums are on their way while the factors are made.
  const int pieces = last - first + 1, items = rows * chunks, lane = thread % kWarp;
  const int groups = max(1, min(pieces, kCachedThreads / items));
  constexpr int kAhead = 4;
  float4 ahead[kAhead][2];
  const int group = groups == 1 ? 0 : thread / items, own = groups == 1 ? thread : thread % items;
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    const int piece = group + i * groups;
    if (own >= items || piece >= pieces) continue;
    const float4* const from = sums_at(place_of_sums(first + piece, first), own / chunks, own % chunks);
    ahead[i][0] = __ldcg(from), ahead[i][1] = __ldcg(from + 1);
  }
  for (int row = thread / kWarp; row < rows; row += kCachedThreads / kWarp) {
    float most = -INFINITY, sum = 0;
    float2 stats[(kMostPieces + kWarp - 1) / kWarp];
#pragma unroll
    for (int i = 0; i * kWarp < kMostPieces; ++i) {
      const int piece = i * kWarp + lane;
      stats[i] = make_float2(-INFINITY, 0);
      if (piece < pieces) stats[i] = __ldcg(shared.stats + place_of_sums(first + piece, first) * kRows + row);
      most = fmaxf(most, stats[i].x);
    }
    most = warp_max(most);
#pragma unroll
    for (int i = 0; i * kWarp < kMostPieces; ++i) {
      stats[i].x = exp2f(stats[i].x - most);
      sum += stats[i].x * stats[i].y;
    }
    sum = warp_sum(sum);
#pragma unroll
    for (int i = 0; i * kWarp < kMostPieces; ++i) {
      if (i * kWarp + lane < pieces) factors[row][i * kWarp + lane] = stats[i].x / sum;
    }
  }
  __syncthreads();
  const auto add = [&](float factor, const float4& low, const float4& high) {
    v[0] = fmaf(factor, low.x, v[0]), v[1] = fmaf(factor, low.y, v[1]);
    v[2] = fmaf(factor, low.z, v[2]), v[3] = fmaf(factor, low.w, v[3]);
    v[4] = fmaf(factor, high.x, v[4]), v[5] = fmaf(factor, high.y, v[5]);
    v[6] = fmaf(factor, high.z, v[6]), v[7] = fmaf(factor, high.w, v[7]);
  };
  for (int item = own; item - own < items; item += kCachedThreads) {
#pragma unroll
    for (float& x : v) x = 0;
    const int row = item / chunks, chunk = item % chunks;
    int piece = group;
    if (item < items && item == own) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i, piece += groups) {
        if (piece < pieces) add(factors[row][piece], ahead[i][0], ahead[i][1]);
      }
    }
    if (item < items) {
#pragma unroll 8
      for (; piece < pieces; piece += groups) {
        const float4* const from = sums_at(place_of_sums(first + piece, first), row, chunk);
        add(factors[row][piece], __ldcg(from), __ldcg(from + 1));
      }
    }
    if (groups > 1) {  // then all items are in the first round
#pragma unroll
      for (int i = 0; i < kChunk; ++i) parts[thread][i] = v[i];
      __syncthreads();
      if (thread >= items) return;
      for (int i = 1; i < groups; ++i) {
#pragma unroll
        for (int d = 0; d < kChunk; ++d) v[d] += parts[i * items + thread][d];
      }
    }
    if (item < items) store(row, chunk, v);
  }
}

}  // namespace moe::cuda
