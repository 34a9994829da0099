#pragma once
/// Which tokens cached attention computes together. A run is tokens that follow each other in the batch, belong to one
/// sequence and have consecutive positions, so they read the same keys. Long runs (pieces of prompts) are computed as
/// tiles of queries, all other tokens as jobs of few tokens. Both are cut at fixed places of the batch, so that a
/// thread finds its run without reading further than `rows` tokens.

#include "backend/cuda/kernel.cuh"
#include "backend/cuda/key_split.h"

namespace moe::cuda {

/// Tokens [token, token + count) of the batch: positions [position, position + count) of a sequence.
struct alignas(16) Run {
  int token, count, sequence, position;

  __device__ int last_position() const { return position + count - 1; }
  /// Tiles of keys that its last token sees.
  __device__ int tiles() const { return last_position() / kTileKeys + 1; }
};

struct PlanTask {
  const int* sequence;
  const int* positions;
  int tokens;
  int job_tokens;  ///< jobs end at multiples of it; divides 32
  int rows;        ///< tiles of queries end at multiples of it: 64 or 128
  int least;       ///< tokens of the shortest tile of queries
};

struct PlanTotals {
  int64_t tiles;  ///< of keys, of all jobs (of one head)
  int jobs;
  int longest;  ///< most tiles of a job
  int pieces;   ///< tiles of queries
  int taken;    ///< 0; counts what blocks have taken of them
};

struct Plan {
  Run* jobs = nullptr;
  int64_t* before = nullptr;  ///< [jobs]: the tiles of keys of the jobs before each
  Run* pieces = nullptr;      ///< tiles of queries; null where none can be
  PlanTotals* totals = nullptr;
};

/// Both numbers become the sums of those of this lane and the lanes before, of the first `lanes` lanes.
__device__ inline void add_up(int& count, int64_t& sum, int lanes) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int apart = 1; apart < lanes; apart *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, count, apart);
    const int64_t other_sum = __shfl_up_sync(0xffffffffu, sum, apart);
    if (lane >= apart) count += other, sum += other_sum;
  }
}

/// A token and the one before it.
struct PlanTokens {
  int sequence, position, last_sequence, last_position;

  __device__ static PlanTokens load(const PlanTask& task, int t) {
    const bool inside = t < task.tokens;
    const int before = inside && t > 0 ? t - 1 : 0;
    return {inside ? task.sequence[t] : -1, task.positions[inside ? t : 0], task.sequence[before],
            task.positions[before]};
  }
};

/// For kThreads threads, a whole block or its first warp. Where the task has more tokens than that, it is a multiple of
/// the task's rows. The caller synchronises the block afterwards.
template <int kThreads>
__device__ void make_plan(const PlanTask& task, const Plan& plan) {
  constexpr int kWarps = kThreads / kWarp;
  const auto synchronize = [] { kThreads == kWarp ? __syncwarp() : __syncthreads(); };
  __shared__ unsigned beginnings[kWarps];
  __shared__ int counts[kWarps], longest_of[kWarps];
  __shared__ int64_t sums[kWarps];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  int jobs = 0, pieces = 0, longest = 0;
  int64_t before = 0;
  PlanTokens coming = PlanTokens::load(task, static_cast<int>(threadIdx.x));
  for (int base = 0; base < task.tokens; base += kThreads) {
    const int t = base + static_cast<int>(threadIdx.x);
    const auto [sequence, position, last_sequence, last_position] = coming;
    if (base + kThreads < task.tokens) coming = PlanTokens::load(task, t + kThreads);
    const bool goes_on =
        sequence >= 0 && t % task.rows != 0 && last_sequence == sequence && last_position == position - 1;
    const unsigned mine = __ballot_sync(0xffffffffu, !goes_on);
    if (lane == 0) beginnings[warp] = mine;
    synchronize();
    // The run's first token, and the one after its last. At multiples of `rows` something begins.
    int w = warp;
    unsigned found = mine & (0xffffffffu >> (kWarp - 1 - lane));
    while (found == 0) found = beginnings[--w];
    const int first = base + w * kWarp + 31 - __clz(static_cast<int>(found));
    w = warp;
    found = lane == kWarp - 1 ? 0 : mine & (0xffffffffu << (lane + 1));
    while (found == 0 && ++w < kWarps) found = beginnings[w];
    const int end = found == 0 ? base + kThreads : base + w * kWarp + __ffs(static_cast<int>(found)) - 1;

    const bool in_tile = sequence >= 0 && end - first >= task.least;
    const bool piece = in_tile && t == first;
    const bool job = sequence >= 0 && !in_tile && (t == first || t % task.job_tokens == 0);
    const int job_end = min(end, t / task.job_tokens * task.job_tokens + task.job_tokens);
    const Run run{t, (piece ? end : job_end) - t, sequence, position};
    const int64_t tiles = job ? run.tiles() : 0;
    longest = max(longest, static_cast<int>(tiles));
    const int count = (job ? 1 : 0) + (piece ? 1 << 16 : 0);
    int count_to = count;
    int64_t sum_to = tiles;
    add_up(count_to, sum_to, kWarp);
    if (lane == kWarp - 1) counts[warp] = count_to, sums[warp] = sum_to;
    synchronize();
    int count_of_warps = lane < kWarps ? counts[lane] : 0;  // up to the lane's
    int64_t sum_of_warps = lane < kWarps ? sums[lane] : 0;
    add_up(count_of_warps, sum_of_warps, kWarps);
    const int all = __shfl_sync(0xffffffffu, count_of_warps, kWarps - 1);
    const int64_t whole = __shfl_sync(0xffffffffu, sum_of_warps, kWarps - 1);
    const int earlier = __shfl_sync(0xffffffffu, count_of_warps, max(warp - 1, 0));
    const int64_t earlier_sum = __shfl_sync(0xffffffffu, sum_of_warps, max(warp - 1, 0));
    const int counted = count_to - count + (warp > 0 ? earlier : 0);
    const int64_t sum = sum_to - tiles + (warp > 0 ? earlier_sum : 0);
    if (job) {
      plan.jobs[jobs + counted % (1 << 16)] = run;
      plan.before[jobs + counted % (1 << 16)] = before + sum;
    }
    if (piece) plan.pieces[pieces + (counted >> 16)] = run;
    jobs += all % (1 << 16);
    pieces += all >> 16;
    before += whole;
    // The next round writes beginnings before its first barrier, and counts and sums after it: both were read by then.
  }
  longest = __reduce_max_sync(0xffffffffu, longest);
  if (lane == 0) longest_of[warp] = longest;
  synchronize();
  if (threadIdx.x != 0) return;
  for (int i = 1; i < kWarps; ++i) longest = max(longest, longest_of[i]);
  *plan.totals = {.tiles = before, .jobs = jobs, .longest = longest, .pieces = pieces, .taken = 0};
}

}  // namespace moe::cuda
