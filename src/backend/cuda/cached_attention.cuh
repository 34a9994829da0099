#pragma once
/// What the kernels of cached attention share: the cache's pages, the plan of a call, and the sums of keys that several
/// blocks divide among them.

#include "backend/cuda/attention.h"
#include "backend/cuda/cached_plan.cuh"

namespace moe::cuda {

constexpr int kCachedThreads = 128;
/// Calls of at most so many tokens need no plan in memory: each block makes its own. They have no tiles of queries.
constexpr int kFewTokens = kCachedThreads;

/// The page table [S, M].
struct Pages {
  const int* table;
  int64_t step;
  int tokens;  ///< of a page

  __device__ int of(int sequence, int position) const { return table[sequence * step + position / tokens]; }
};
inline Pages pages_of(const View& pages, const View& cache) {
  return {pages.as<const int32_t>(), pages.stride[0], static_cast<int>(cache.size(1))};
}

/// Rows of one page of a cache [N, P, C], and the elements from one page to the next.
struct CachePages {
  Matrix first;
  int64_t page_step;

  __device__ Matrix page(int number) const {
    Matrix result = first;
    result.data = static_cast<char*>(first.data) + number * page_step * (first.bf16 ? 2 : 4);
    return result;
  }
};
inline CachePages cache_pages(const View& view) {
  if (view.elements() == 0) return {matrix(View(view.data, view.dtype, {0, 0})), 0};
  CachePages result{matrix(view.at(0)), view.stride[0]};
  result.first.wide = result.first.wide && view.stride[0] % kChunk == 0;
  return result;
}

/// A cache [N, P, C] in bf16 that is read.
struct HeadPages {
  const __nv_bfloat16* data;
  int64_t page_step, step;

  __device__ const __nv_bfloat16* at(int page, int line, int64_t column) const {
    return data + page * page_step + line * step + column;
  }
};
inline HeadPages head_pages(const View& cache) {
  return {static_cast<const __nv_bfloat16*>(cache.data), cache.stride[0], cache.stride[1]};
}

/// What blocks that share a head of a job leave for the one that adds it up.
struct SharedSums {
  float* sums;    ///< [place][row][width]; place: place_of_sums
  float2* stats;  ///< [place][row]: the largest score, scaled to the base 2, and the sum of the exponentials
  int* arrived;   ///< [block]: blocks that have left theirs; 0 between operations
  int width;
};

struct CachedTask {
  Matrix q, out;
  const int* sequence;
  Pages pages;
  AttentionShape shape;
  PlanTask task;
  Plan plan;  ///< of a call of more than kFewTokens tokens
  SharedSums shared;
  bool whole_heads = false;  ///< a block takes all keys of a head, so that the order of the sums is always the same
};

/// Fills the task except for `plan.pieces`, which a call with tiles of queries takes itself. `job_rows`: rows of a job;
/// `width`: elements of a row's sums; `blocks`: those of the kernel.
CachedTask cached_task(Context& context, Carver& carver, const CachedAttention& op, int job_rows, int width,
                       int blocks);
/// Blocks for so many on each multiprocessor.
int cached_blocks(const Context& context, int each);

/// Makes the plan of a call of more than kFewTokens tokens: with tiles of `rows` queries, or none where rows is 0.
void plan_cached(Context& context, Carver& carver, CachedTask& task, int rows);
/// The most tiles of queries that a call can have.
int64_t most_pieces(const CachedTask& task);

AttentionShape shape_of(const CachedAttention& op);

/// Single tokens and short runs, on the tensor cores of every supported GPU (tensor_decode) or in f32 arithmetic.
void tensor_decode(Context& context, const CachedTask& task, const CachedAttention& op);
void simt_decode(Context& context, const CachedTask& task, const CachedAttention& op);
/// Blocks of these kernels on a multiprocessor, and the padded size of a head.
constexpr int kTensorDecodeEach = 2, kSimtDecodeEach = 4;
constexpr int tensor_width(int head_size) { return head_size <= 64 ? 64 : 128; }

/// Tiles of queries (plan_cached), for attention_path's tensor and hopper.
void tensor_prompt(Context& context, const CachedTask& task, const CachedAttention& op);
void hopper_prompt(Context& context, const CachedTask& task, const CachedAttention& op);
constexpr int kTensorPromptRows = 64, kHopperPromptRows = 128;

}  // namespace moe::cuda
