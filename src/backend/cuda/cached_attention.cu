#include "backend/cuda/attention_path.h"
#include "backend/cuda/cached_attention.cuh"
#include "backend/cuda/early.cuh"
#include "backend/cuda/rotate.cuh"
#include "backend/cuda/rotated_attention.h"

namespace moe::cuda {
namespace {

/// blockIdx.y: 0 for keys, 1 for values.
__global__ void append_kernel(Matrix k, Matrix v, const int* sequence, const int* positions, Pages pages,
                              CachePages k_cache, CachePages v_cache, int64_t tokens, int64_t width) {
  let_next_start();
  wait_for_previous();
  const int64_t chunks = (width + kChunk - 1) / kChunk;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t t = index / chunks, c = index % chunks * kChunk;
  if (t >= tokens || sequence[t] < 0) return;
  const int position = positions[t], number = pages.of(sequence[t], position);
  const auto copy = [&](const Matrix& from, const CachePages& cache) {
    float x[kChunk];
    load_chunk(from, t, c, width, x);
    store_chunk(cache.page(number), position % pages.tokens, c, width, x);
  };
  blockIdx.y == 0 ? copy(k, k_cache) : copy(v, v_cache);
}

/// All in bf16, heads of size `head`. A thread rotates a chunk of the first half of a head with its partner in the
/// second half, and writes both to the cache too if the head is one of the keys'; the threads behind them copy a chunk
/// of the values.
struct RotateTask {
  Matrix x, table, v;
  const int *sequence, *positions;
  Pages pages;
  CachePages k_cache, v_cache;
  int tokens, head, query_heads, heads, value_chunks;
};

__global__ void rotate_append_kernel(const __grid_constant__ RotateTask task) {
  let_next_start();
  wait_for_previous();
  const int half = task.head / 2, chunks = half / kChunk, rotated = task.heads * chunks;
  const int64_t row = grid_row();
  const int at = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
  if (row >= task.tokens || at >= rotated + task.value_chunks) return;
  const int sequence = task.sequence[row], position = task.positions[row];
  const auto put = [&](const CachePages& cache, int64_t column, const Bf16Chunk& chunk) {
    chunk.store(cache.page(task.pages.of(sequence, position)), position % task.pages.tokens, column);
  };
  if (at >= rotated) {
    const int64_t column = int64_t{at - rotated} * kChunk;
    if (sequence >= 0) put(task.v_cache, column, Bf16Chunk::load(task.v, row, column));
    return;
  }
  const int head = at / chunks, j = at % chunks * kChunk;
  const int64_t low = int64_t{head} * task.head + j, high = low + half;
  float x1[kChunk], x2[kChunk], c[kChunk], s[kChunk];
  Bf16Chunk::load(task.x, row, low).get(x1);
  Bf16Chunk::load(task.x, row, high).get(x2);
  load_chunk(task.table, row, j, half, c);
  load_chunk(task.table, row, half + j, task.head, s);
#pragma unroll
  for (int i = 0; i < kChunk; ++i) rotate(x1[i], x2[i], c[i], s[i]);
  const Bf16Chunk first = Bf16Chunk::of(x1), second = Bf16Chunk::of(x2);
  first.store(task.x, row, low);
  second.store(task.x, row, high);
  if (sequence < 0 || head < task.query_heads) return;
  const int64_t column = int64_t{head - task.query_heads} * task.head + j;
  put(task.k_cache, column, first);
  put(task.k_cache, column + half, second);
}

__global__ void __launch_bounds__(1024) plan_kernel(const PlanTask task, const Plan plan) {
  make_plan<1024>(task, plan);
}

}  // namespace

AttentionShape shape_of(const CachedAttention& op) {
  const AttentionShape shape{.tokens = op.q.size(0),
                             .heads = op.heads,
                             .kv_heads = op.kv_heads,
                             .head_size = static_cast<int>(op.q.size(1) / op.heads),
                             .scale = op.scale,
                             .max_segment = op.pages.size(1) * op.k_cache.size(1)};
  if (shape.head_size > kMostHeadSize) {
    fail("{}: heads are of size {}, and on a GPU at most {}", CachedAttention::name, shape.head_size, kMostHeadSize);
  }
  MOE_CHECK(shape.tokens <= INT32_MAX - 1024);
  return shape;
}

int cached_blocks(const Context& context, int each) {
  return std::min(each * processors(context), static_cast<int>(kCounters));
}

CachedTask cached_task(Context& context, Carver& carver, const CachedAttention& op, int job_rows, int width,
                       int blocks) {
  CachedTask task{.q = matrix(op.q),
                  .out = matrix(op.out),
                  .sequence = op.sequence.as<const int32_t>(),
                  .pages = pages_of(op.pages, op.k_cache),
                  .shape = shape_of(op),
                  .task = {.sequence = op.sequence.as<const int32_t>(),
                           .positions = op.positions.as<const int32_t>(),
                           .tokens = static_cast<int>(op.q.size(0)),
                           .job_tokens = job_rows > 1 ? job_tokens(op.heads / op.kv_heads) : 1,
                           .rows = kFewTokens,
                           .least = INT32_MAX},
                  .plan = {},
                  .shared = {},
                  .whole_heads = product_path() == CudaPath::invariant};
  const int64_t rows = int64_t{2} * blocks * job_rows;
  task.shared = {.sums = carver.take<float>(rows * width),
                 .stats = carver.take<float2>(rows),
                 .arrived = context.counters,
                 .width = width};
  return task;
}

int64_t most_pieces(const CachedTask& task) {
  return ceil_div(task.task.tokens, task.task.rows) * std::max(1, task.task.rows / task.task.least);
}

void plan_cached(Context& context, Carver& carver, CachedTask& task, int rows) {
  if (rows > 0) {
    task.task.rows = rows;
    // Fewer queries are faster as jobs, which divide the keys among all blocks.
    task.task.least = std::max(kMostJobTokens, 4 * task.task.job_tokens);
    task.plan.pieces = carver.take<Run>(most_pieces(task));
  }
  task.plan.jobs = carver.take<Run>(task.task.tokens);
  task.plan.before = carver.take<int64_t>(task.task.tokens);
  task.plan.totals = carver.take<PlanTotals>(1);
  launch(context, plan_kernel, dim3(1), 1024, 0, task.task, task.plan);
}

template <>
void execute(Context& context, const KvAppend& op) {
  constexpr unsigned kThreads = 256;
  const int64_t tokens = op.k.size(0), width = op.k.size(1);
  dim3 grid = blocks(ceil_div(tokens * ceil_div(width, kChunk), kThreads));
  grid.y = 2;
  launch_early(context, append_kernel, grid, kThreads, 0, matrix(op.k), matrix(op.v), op.sequence.as<const int32_t>(),
               op.positions.as<const int32_t>(), pages_of(op.pages, op.k_cache), cache_pages(op.k_cache),
               cache_pages(op.v_cache), tokens, width);
}

bool rotated_append(Context& context, const Rope& rope, const KvAppend& append) {
  const View &x = rope.x, &k = append.k, &v = append.v;
  const int64_t tokens = x.size(0), head = rope.table.size(1);
  if (tokens == 0 || head == 0 || head % (2 * kChunk) != 0 || rope.inverse || k.size(1) % head != 0) return false;
  const RotateTask task{.x = matrix(x),
                        .table = matrix(rope.table),
                        .v = matrix(v),
                        .sequence = append.sequence.as<const int32_t>(),
                        .positions = append.positions.as<const int32_t>(),
                        .pages = pages_of(append.pages, append.k_cache),
                        .k_cache = cache_pages(append.k_cache),
                        .v_cache = cache_pages(append.v_cache),
                        .tokens = static_cast<int>(tokens),
                        .head = static_cast<int>(head),
                        .query_heads = static_cast<int>((x.size(1) - k.size(1)) / head),
                        .heads = static_cast<int>(x.size(1) / head),
                        .value_chunks = static_cast<int>(v.size(1) / kChunk)};
  for (const Matrix* m : {&task.x, &task.v, &task.k_cache.first, &task.v_cache.first}) {
    if (m->data == nullptr || !in_bf16_chunks(*m, head)) return false;
  }
  const RowGrid shape(tokens, (int64_t{task.heads} * (head / 2 / kChunk) + task.value_chunks) * kChunk);
  launch_early(context, rotate_append_kernel, shape.grid, shape.threads, 0, task);
  return true;
}

template <>
void execute(Context& context, const CachedAttention& op) {
  if (op.q.size(0) == 0 || attend_few(context, op)) return;
  const CudaPath path = attention_path(op, product_path(), context.compute_capability);
  Carver carver(context, CachedAttention::name);
  const bool few = op.q.size(0) <= kFewTokens;
  if (path == CudaPath::simt) {
    const int width = static_cast<int>(ceil_div(op.q.size(1) / op.heads, kChunk) * kChunk);
    CachedTask task = cached_task(context, carver, op, 1, width, cached_blocks(context, kSimtDecodeEach));
    if (!few) plan_cached(context, carver, task, 0);
    return simt_decode(context, task, op);
  }
  const int width = tensor_width(static_cast<int>(op.q.size(1) / op.heads));
  CachedTask task = cached_task(context, carver, op, kMostJobTokens, width, cached_blocks(context, kTensorDecodeEach));
  if (!few && task.whole_heads) {
    plan_cached(context, carver, task, 0);  // a token's kernel must not depend on how a prompt is cut
  } else if (!few) {
    const bool hopper = path == CudaPath::hopper;
    plan_cached(context, carver, task, hopper ? kHopperPromptRows : kTensorPromptRows);
    hopper ? hopper_prompt(context, task, op) : tensor_prompt(context, task, op);
  }
  tensor_decode(context, task, op);
}

}  // namespace moe::cuda
