// Attention of a few tokens over cached keys, where each query head has a key head of its own. Reading the cache takes
// a microsecond, so what counts is how often a kernel waits for memory. The blocks of a cluster divide the keys of one
// token and head; each warp keeps its keys and values in registers, and the blocks add up in the shared memory of the
// first one. Keys that were in the cache before this call's tokens are loaded before the kernels ahead have ended.

#include <climits>
#include <optional>

#include "backend/cuda/attention_path.h"
#include "backend/cuda/cached_attention.cuh"
#include "backend/cuda/cluster.cuh"
#include "backend/cuda/early.cuh"
#include "backend/cuda/rotate.cuh"
#include "backend/cuda/rotated_attention.h"

namespace moe::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp, kTogether = 2;  ///< kTogether: blocks on a multiprocessor
constexpr int kKeys = 8;                                                 ///< that a warp takes at a time, of one page
constexpr int kAhead = 2;        ///< so many pieces of kKeys are on their way. More code costs more than they win
constexpr int kMostCluster = 8;  ///< blocks; more are not certain to fit together
constexpr int kMostTokens = 16;  ///< more are faster as jobs (cached_decode.cu)
constexpr float kLog2e = 1.4426950408889634f;

struct FewTask {
  Matrix q, out;
  HeadPages k, v;
  Pages pages;
  const int *sequence, *positions;
  int tokens, heads;
  float scale;  ///< to the base 2
  /// Of a token whose rotation and append belong to the kernel: q and new_k are not rotated yet, and the cache is
  /// written.
  Matrix table, new_k, new_v;
  CachePages k_cache, v_cache;
};

/// Eight elements of a head of size kSize, and those that the rotation pairs with them.
template <int kSize>
struct Pair {
  Bf16Chunk own, other;
  alignas(16) float cosine[kChunk], sine[kChunk];

  /// Asks for them: chunk `chunk` of the head at `column`.
  __device__ Pair(const Matrix& x, const Matrix& table, int64_t row, int64_t column, int chunk) {
    constexpr int kHalf = kSize / kChunk / 2;
    own = Bf16Chunk::load(x, row, column + chunk * kChunk);
    other = Bf16Chunk::load(x, row, column + (chunk ^ kHalf) * kChunk);
    const float* const angles = static_cast<const float*>(table.data) + row * table.step + chunk % kHalf * kChunk;
#pragma unroll
    for (int i = 0; i < kChunk; i += 4) {
      *reinterpret_cast<float4*>(cosine + i) = *reinterpret_cast<const float4*>(angles + i);
      *reinterpret_cast<float4*>(sine + i) = *reinterpret_cast<const float4*>(angles + kSize / 2 + i);
    }
  }
  __device__ Bf16Chunk rotated(int chunk) const {
    float x[kChunk], y[kChunk];
    own.get(x);
    other.get(y);
    const float sign = chunk < kSize / kChunk / 2 ? -1.0f : 1.0f;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) x[i] = cuda::rotated(x[i], y[i], cosine[i], sign * sine[i]);
    return Bf16Chunk::of(x);
  }
};

/// A lane's part of the sums over keys: eight elements of the weighted values.
struct LaneSums {
  float largest = -INFINITY, total = 0;  ///< the largest score (to the base 2), and the sum of the weights
  float sum[kChunk] = {};

  /// Adds what the lanes `apart` from here have.
  __device__ void add_other(int apart) {
    const float other = __shfl_xor_sync(0xffffffffu, largest, apart), most = fmaxf(largest, other);
    const float base = most == -INFINITY ? 0.0f : most, mine = exp2f(largest - base), its = exp2f(other - base);
    largest = most;
    total = fmaf(mine, total, its * __shfl_xor_sync(0xffffffffu, total, apart));
#pragma unroll
    for (float& x : sum) x = fmaf(mine, x, its * __shfl_xor_sync(0xffffffffu, x, apart));
  }
  /// Adds the first `valid` of kCount keys. kLanes lanes share a key.
  template <int kLanes, int kCount>
  __device__ void add(const float (&q)[kChunk], const Bf16Chunk (&k)[kCount], const Bf16Chunk (&v)[kCount], int valid,
                      float scale) {
    float score[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      float x[kChunk];
      k[i].get(x);
      score[i] = 0;
#pragma unroll
      for (int d = 0; d < kChunk; ++d) score[i] = fmaf(q[d], x[d], score[i]);
    }
#pragma unroll
    for (int apart = kLanes / 2; apart > 0; apart /= 2) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) score[i] += __shfl_xor_sync(0xffffffffu, score[i], apart);
    }
    float most = largest;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      score[i] = i < valid ? score[i] * scale : -INFINITY;
      most = fmaxf(most, score[i]);
    }
    const float base = most == -INFINITY ? 0.0f : most;  // no key yet: every weight is 0
    const float shrink = exp2f(largest - base);
    largest = most;
    total *= shrink;
#pragma unroll
    for (float& x : sum) x *= shrink;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float weight = exp2f(score[i] - base);
      total += weight;
      float x[kChunk];
      v[i].get(x);
#pragma unroll
      for (int d = 0; d < kChunk; ++d) sum[d] = fmaf(weight, x[d], sum[d]);
    }
  }
};

/// What parts of a head's keys add up to: element `at` of the parts before `count`, of kMost, and their weights.
struct Joined {
  float largest = -INFINITY, total = 0, sum = 0;

  template <int kMost, int kSize>
  __device__ Joined(const float (&sums)[kMost][kSize], const float2 (&stats)[kMost], int count, int at) {
    float2 stat[kMost];
    float value[kMost];
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      stat[i] = i < count ? stats[i] : make_float2(-INFINITY, 0);
      value[i] = i < count ? sums[i][at] : 0.0f;
      largest = fmaxf(largest, stat[i].x);
    }
    const float base = largest == -INFINITY ? 0.0f : largest;
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      const float factor = exp2f(stat[i].x - base);
      total = fmaf(factor, stat[i].y, total);
      sum = fmaf(factor, value[i], sum);
    }
  }
};

/// The first position that this call's tokens of a sequence have. A warp together.
__device__ inline int first_position(const FewTask& task, int sequence) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const bool its = lane < task.tokens && task.sequence[lane] == sequence;
  return __reduce_min_sync(0xffffffffu, its ? task.positions[lane] : INT_MAX);
}

/// `kNew`: the one token is rotated and appended here. `early`: nothing in flight writes sequences, positions and
/// pages.
template <int kSize, bool kNew>
__global__ void __launch_bounds__(kThreads, kTogether)
    few_kernel(const __grid_constant__ FewTask task, const bool early) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kLanes = kSize / kChunk, kApart = kWarp / kLanes, kLoads = kKeys / kApart;
  __shared__ float sums[kWarps][kSize], block_sums[kMostCluster][kSize];
  __shared__ float2 stats[kWarps], block_stats[kMostCluster];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  const int chunk = lane % kLanes, group = lane / kLanes;  // of a load: kApart keys
  const int size = hopper::cluster_size(), rank = hopper::cluster_rank();
  const int item = static_cast<int>(blockIdx.x) / size, token = item / task.heads;
  const int64_t column = int64_t{item % task.heads} * kSize, place = column + chunk * kChunk;
  hopper::arrive_at_cluster();  // this block runs, so others may write to its memory
  let_next_start();
  if (!early) wait_for_previous();

  // A token without a sequence has no keys. Else keys 0 to position, in pieces; the token's own key is the last.
  const int sequence = task.sequence[token], position = sequence < 0 ? -1 : task.positions[token];
  const int page_row = max(sequence, 0);
  const int number = rank * kWarps + warp, step = size * kWarps * kKeys;
  const bool has_own = position / kKeys % (size * kWarps) == number;
  Bf16Chunk k[kAhead][kLoads] = {}, v[kAhead][kLoads] = {};
  // Asks for the keys from `begin` on and before `end`, of a piece.
  const auto load = [&](int piece, int to, int begin, int end) {
    const int page = task.pages.of(page_row, piece), line = piece % task.pages.tokens;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int at = i * kApart + group, key = piece + at;
      if (key >= begin && key < end) {
        k[to][i].bits = *reinterpret_cast<const uint4*>(task.k.at(page, line + at, place));
        v[to][i].bits = *reinterpret_cast<const uint4*>(task.v.at(page, line + at, place));
      }
    }
  };
  int key = number * kKeys, first_new = 0;  // this call writes no key before first_new
  if (early) {
    first_new = min(first_position(task, sequence), position + 1);
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (key + a * step < first_new) load(key + a * step, a, 0, first_new);
    }
    wait_for_previous();
  }
  Bf16Chunk query;
  if constexpr (kNew) {
    const Pair<kSize> pair(task.q, task.table, token, column, chunk);
    if (has_own) {
      const Pair<kSize> own(task.new_k, task.table, token, column, chunk);
      const Bf16Chunk own_v = Bf16Chunk::load(task.new_v, token, place), own_k = own.rotated(chunk);
      __syncwarp();  // all have read the key that is written now
      if (group == 0) {
        own_k.store(task.new_k, token, place);
        if (position >= 0) {
          const int page = task.pages.of(page_row, position), line = position % task.pages.tokens;
          own_k.store(task.k_cache.page(page), line, place);
          own_v.store(task.v_cache.page(page), line, place);
        }
      }
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
#pragma unroll
        for (int i = 0; i < kLoads; ++i) {
          if (key + a * step + i * kApart + group == position) k[a][i] = own_k, v[a][i] = own_v;
        }
      }
      __syncwarp();  // the cache has it for who reads it from there
    }
    query = pair.rotated(chunk);
  } else {
    query = Bf16Chunk::load(task.q, token, place);
  }
#pragma unroll
  for (int a = 0; a < kAhead; ++a) {
    const int at = key + a * step, end = kNew ? position : position + 1;
    if (at < end && at + kKeys > first_new) load(at, a, first_new, end);
  }
  float q[kChunk];
  query.get(q);
  LaneSums found;
  while (key <= position) {
#pragma unroll
    for (int a = 0; a < kAhead; ++a, key += step) {
      if (key > position) break;
      const int left = position + 1 - key - group;  // this lane's keys that count are those with i * kApart < left
      found.add<kLanes>(q, k[a], v[a], (left + kApart - 1) / kApart, task.scale);
      const int next = key + kAhead * step;
      if (next <= position) load(next, a, 0, position + 1);
    }
  }

#pragma unroll
  for (int apart = kLanes; apart < kWarp; apart *= 2) found.add_other(apart);
  if (group == 0) {
    auto* const to = reinterpret_cast<float4*>(&sums[warp][chunk * kChunk]);
    to[0] = make_float4(found.sum[0], found.sum[1], found.sum[2], found.sum[3]);
    to[1] = make_float4(found.sum[4], found.sum[5], found.sum[6], found.sum[7]);
  }
  if (lane == 0) stats[warp] = make_float2(found.largest, found.total);
  __syncthreads();
  hopper::await_cluster();
  if (thread < kSize) {
    const Joined joined(sums, stats, kWarps, thread);
    hopper::store_at(&block_sums[rank][thread], 0, joined.sum);
    if (thread == 0) {
      hopper::store_at(&block_stats[rank].x, 0, joined.largest);
      hopper::store_at(&block_stats[rank].y, 0, joined.total);
    }
  }
  hopper::synchronize_cluster();
  if constexpr (kNew) {
    // All blocks of the head have read its query.
    if (rank == 0 && thread < kLanes) query.store(task.q, token, column + chunk * kChunk);
  }
  if (rank != 0 || thread >= kSize) return;
  const Joined joined(block_sums, block_stats, size, thread);
  const float result = joined.total == 0 ? 0.0f : joined.sum / joined.total;
  const float right = __shfl_down_sync(0xffffffffu, result, 1);
  if (thread % 2 == 0) {
    auto* const out = static_cast<__nv_bfloat16*>(task.out.data) + token * task.out.step + column + thread;
    *reinterpret_cast<__nv_bfloat162*>(out) = __floats2bfloat162_rn(result, right);
  }
#endif
}

std::optional<FewTask> few_task(const Context& context, const CachedAttention& op) {
  const bool fits = op.q.size(0) <= kMostTokens && op.heads == op.kv_heads &&
                    attention_path(op, product_path(), context.compute_capability) == CudaPath::hopper;
  if (!fits) return std::nullopt;
  return FewTask{.q = matrix(op.q),
                 .out = matrix(op.out),
                 .k = head_pages(op.k_cache),
                 .v = head_pages(op.v_cache),
                 .pages = pages_of(op.pages, op.k_cache),
                 .sequence = op.sequence.as<const int32_t>(),
                 .positions = op.positions.as<const int32_t>(),
                 .tokens = static_cast<int>(op.q.size(0)),
                 .heads = op.heads,
                 .scale = op.scale * kLog2e,
                 .table = {},
                 .new_k = {},
                 .new_v = {},
                 .k_cache = {},
                 .v_cache = {}};
}

template <bool kNew>
void start(Context& context, const FewTask& task, const CachedAttention& op) {
  const int items = task.tokens * task.heads;
  int size = kMostCluster;
  while (size > 1 && items * size > kTogether * processors(context)) size /= 2;
  const bool early = context.rests(op.sequence) && context.rests(op.positions) && context.rests(op.pages);
  const auto kernel = op.q.size(1) / op.heads == 128 ? few_kernel<128, kNew> : few_kernel<64, kNew>;
  launch_early_clusters(context, size, kernel, blocks(int64_t{items} * size), kThreads, task, early);
}

}  // namespace

bool attend_few(Context& context, const CachedAttention& op) {
  const std::optional<FewTask> task = few_task(context, op);
  if (task) start<false>(context, *task, op);
  return task.has_value();
}

bool attend_new(Context& context, const RotatedAttention& op) {
  std::optional<FewTask> task = few_task(context, op.attention);
  if (!task || task->tokens != 1 || op.rope.inverse) return false;
  task->table = matrix(op.rope.table);
  task->new_k = matrix(op.append.k);
  task->new_v = matrix(op.append.v);
  task->k_cache = cache_pages(op.append.k_cache);
  task->v_cache = cache_pages(op.append.v_cache);
  const int64_t size = op.rope.table.size(1);
  if (size * op.attention.heads != op.attention.q.size(1) || task->table.bf16 || !task->table.wide) return false;
  for (const Matrix* m : {&task->new_k, &task->new_v}) {
    if (!in_bf16_chunks(*m, size)) return false;
  }
  start<true>(context, *task, op.attention);
  return true;
}

}  // namespace moe::cuda
