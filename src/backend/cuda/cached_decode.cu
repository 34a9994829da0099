// Attention of single tokens and short runs over cached keys, on the tensor cores. A job is up to 16 rows: the query
// heads of one key head, for one or some tokens. A block walks over its tiles of 64 keys; each of its warps streams 16
// keys of a tile through memory of its own, so that warps wait for their own copies alone. Reading the cache bounds the
// speed; that most rows of a product may be empty does not matter.

#include <climits>

#include "backend/cuda/attention_tiles.cuh"
#include "backend/cuda/cached_split.cuh"
#include "backend/cuda/early.cuh"

namespace moe::cuda {
namespace {

using tiles::exp2_fast;
using tiles::kLog2e;
using tiles::place;

constexpr int kThreads = kCachedThreads, kWarps = kThreads / kWarp;
constexpr int kKeys = kTileKeys / kWarps;  ///< of a warp in a tile
constexpr int kRows = kMostJobTokens;      ///< of a job
static_assert(kKeys == 16 && kRows == 16);

/// Elements of a stage: keys and values of each warp. Sums of kRows rows in f32 take as much.
template <int kSize>
constexpr int kWarpElements = 2 * kKeys* kSize;

/// The stream of a warp's keys and values. It runs ahead of the products, from one head or job to the next too.
template <int kSize, int kStages>
struct Feed {
  const CachedTask& task;
  const Plan& plan;
  const HeadPages &k, &v;
  int heads, parts;  ///< counted for each job, and those of one key head
  __nv_bfloat16* ring;
  KeyCursor cursor;
  int64_t left;
  int stage = 0;
  int page = -1, line = 0;  ///< of the coming tile: of its key lane % 16

  __device__ void look_up() {
    const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
    page = -1;
    if (left == 0) return;
    const int key = cursor.tile * kTileKeys + warp * kKeys + lane % kKeys;
    if (key > cursor.run.last_position()) return;
    page = task.pages.of(cursor.run.sequence, key);
    line = key % task.pages.tokens;
  }
  /// Starts the copies of the next tile. Rows behind the last key become zeros.
  __device__ void load() {
    if (left > 0) {
      constexpr int kRowChunks = kSize / kChunk, kApart = kWarp / kRowChunks;
      const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
      __nv_bfloat16* const keys = ring + (stage * kWarps + warp) * kWarpElements<kSize>;
      const int chunk = lane % kRowChunks;
      const bool inside = chunk * kChunk < task.shape.head_size;
      const int64_t column = int64_t{cursor.head / parts} * task.shape.head_size + chunk * kChunk;
#pragma unroll
      for (int i = 0; i < kKeys / kApart; ++i) {
        const int row = lane / kRowChunks + i * kApart;
        const int its_page = __shfl_sync(0xffffffffu, page, row), its_line = __shfl_sync(0xffffffffu, line, row);
        const bool valid = inside && its_page >= 0;
        copy_chunk(keys + place<kSize>(row, chunk), valid ? k.at(its_page, its_line, column) : k.data, valid);
        copy_chunk(keys + kKeys * kSize + place<kSize>(row, chunk), valid ? v.at(its_page, its_line, column) : v.data,
                   valid);
      }
      cursor.advance(plan, heads);
      --left;
      look_up();
    }
    commit_copies();
    stage = stage + 1 < kStages ? stage + 1 : 0;
  }
};

/// A warp's part of a head of a job: its keys' largest scores (to the base 2), weights and weighted values.
template <int kSize>
struct Sums {
  float largest[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};  ///< total: of this lane's columns
  float sum[kSize / 8][4] = {};

  __device__ void add(const unsigned (&query)[kSize / 16][4], const __nv_bfloat16* keys, int first_key,
                      const int (&last_key)[2], float scale) {
    float scores[2][4] = {};
#pragma unroll
    for (int k = 0; k < kSize / 16; ++k) {
      unsigned b[4];
      tiles::load_b_rows<kSize>(keys, 0, k, b);
      multiply_add(scores[0], query[k], b[0], b[1]);
      multiply_add(scores[1], query[k], b[2], b[3]);
    }
    const int key = first_key + static_cast<int>(threadIdx.x) % 4 * 2;
    float shrink[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float found = -INFINITY;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& score = scores[j][2 * half + i];
          score = key + 8 * j + i <= last_key[half] ? score * scale : -INFINITY;
          found = fmaxf(found, score);
        }
      }
      found = fmaxf(found, __shfl_xor_sync(0xffffffffu, found, 1));
      found = fmaxf(found, __shfl_xor_sync(0xffffffffu, found, 2));
      found = fmaxf(found, largest[half]);
      const float base = found == -INFINITY ? 0.0f : found;  // no key yet: every weight is 0
      shrink[half] = exp2_fast(largest[half] - base);
      largest[half] = found;
      total[half] *= shrink[half];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& score = scores[j][2 * half + i];
          score = exp2_fast(score - base);
          total[half] += score;
        }
      }
    }
    const unsigned weights[4] = {tiles::pack(scores[0][0], scores[0][1]), tiles::pack(scores[0][2], scores[0][3]),
                                 tiles::pack(scores[1][0], scores[1][1]), tiles::pack(scores[1][2], scores[1][3])};
#pragma unroll
    for (int n = 0; n < kSize / 16; ++n) {
      unsigned b[4];
      tiles::load_b_columns<kSize>(keys + kKeys * kSize, 0, n, b);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[2 * n + j][i] *= shrink[i / 2];
        multiply_add(sum[2 * n + j], weights, b[2 * j], b[2 * j + 1]);
      }
    }
  }

  /// Writes the rows before `rows` to the warp's part of a stage (chunk c of row r at c ^ r % 8), and the rest.
  __device__ void put(float* sums, float* largest_of, float* total_of, int rows) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      total[half] += __shfl_xor_sync(0xffffffffu, total[half], 1);
      total[half] += __shfl_xor_sync(0xffffffffu, total[half], 2);
      const int row = lane / 4 + 8 * half;
      if (row >= rows) continue;
      if (lane % 4 == 0) largest_of[row] = largest[half], total_of[row] = total[half];
#pragma unroll
      for (int j = 0; j < kSize / 8; ++j) {
        *reinterpret_cast<float2*>(sums + row * kSize + (j ^ (row & 7)) * kChunk + lane % 4 * 2) =
            make_float2(sum[j][2 * half], sum[j][2 * half + 1]);
      }
    }
  }
};

/// The queries of a job: row r is head r % group of token r / group, or of a key head with more than 16 query heads
/// those of its `part`.
struct JobRows {
  int first_token, first_head, group, part, count, size;

  __device__ JobRows(const CachedTask& task, const KeyCursor& at, int parts)
      : first_token(at.run.token),
        group(task.shape.heads / task.shape.kv_heads),
        part(at.head % parts),
        size(task.shape.head_size) {
    first_head = at.head / parts * group;
    count = min(kRows, at.run.count * group - part * kRows);
  }
  __device__ int token(int row) const { return (part * kRows + row) / group; }  ///< of the job
  __device__ int64_t column(int row) const { return int64_t{first_head + (part * kRows + row) % group} * size; }
};

/// The first position that this call's tokens of a sequence have. A warp together, of at most kWarp tokens.
__device__ inline int first_position(const PlanTask& task, int sequence) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const bool its = lane < task.tokens && task.sequence[lane] == sequence;
  return __reduce_min_sync(0xffffffffu, its ? task.positions[lane] : INT_MAX);
}

/// `early`: nothing in flight writes sequences, positions and pages. Then keys and values are loaded before the earlier
/// kernels have ended, as far as they were in the cache before this call's tokens.
template <int kSize, int kStages, bool kWholeHeads>
__global__ void __launch_bounds__(kThreads, kTensorDecodeEach)
    decode_kernel(const CachedTask task, const HeadPages k, const HeadPages v, const bool early) {
  extern __shared__ __align__(128) __nv_bfloat16 ring[];
  __shared__ OwnPlan own;
  __shared__ float largest_of[kWarps][kRows], total_of[kWarps][kRows], largest[kRows], total[kRows];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int thread = static_cast<int>(threadIdx.x);
  let_next_start();
  if (!early) wait_for_previous();
  const Plan plan = plan_of(task, own);
  const int group = task.shape.heads / task.shape.kv_heads, parts = (group + kRows - 1) / kRows;
  const int heads = task.shape.kv_heads * parts;
  const KeySplit split = split_of<kWholeHeads>(plan, heads);
  for (int round = 0;; ++round) {
    const auto [begin, end] = BlockPart::of<kWholeHeads>(plan, split, heads, round);
    if (begin == end) {
      if (early && round == 0) wait_for_previous();
      break;
    }
    KeyCursor at = KeyCursor::at(plan, begin, heads);
    Feed<kSize, kStages> feed{task, plan, k, v, heads, parts, ring, at, end - begin};
    feed.look_up();
    int loaded = 0;
    if (early && round == 0) {
      // Tiles of keys that were in the cache before this call's.
      while (loaded < kStages - 1 && feed.left > 0) {
        const int first_new = first_position(task.task, feed.cursor.run.sequence);
        if (feed.cursor.tile * kTileKeys + kTileKeys > first_new) break;
        feed.load();
        ++loaded;
      }
      wait_for_previous();
    }
    for (; loaded < kStages - 1; ++loaded) feed.load();

    const float scale = task.shape.scale * kLog2e;
    int stage = 0;
    for (int64_t left = end - begin; left > 0;) {
      const int count = static_cast<int>(min(int64_t{at.tiles - at.tile}, left));
      const JobRows rows(task, at, parts);
      unsigned query[kSize / 16][4];
      int last_key[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = lane / 4 + 8 * half;
        const bool valid = row < rows.count;
        last_key[half] = valid ? at.run.position + rows.token(row) : -1;
        const int64_t from = (rows.first_token + (valid ? rows.token(row) : 0)) * task.q.step + rows.column(row);
#pragma unroll
        for (int j = 0; j < kSize / 8; ++j) {
          query[j / 2][half + j % 2 * 2] =
              valid && j * 8 < rows.size
                  ? *reinterpret_cast<const unsigned*>(static_cast<const __nv_bfloat16*>(task.q.data) + from + j * 8 +
                                                       lane % 4 * 2)
                  : 0u;
        }
      }
      Sums<kSize> sums;
      for (int i = 0; i < count; ++i) {
        feed.load();
        wait_for_copies<kStages - 1>();
        __syncwarp();
        sums.add(query, ring + (stage * kWarps + warp) * kWarpElements<kSize>, (at.tile + i) * kTileKeys + warp * kKeys,
                 last_key, scale);
        __syncwarp();  // before copies overwrite what was read
        if (i + 1 < count) stage = stage + 1 < kStages ? stage + 1 : 0;
      }
      // The stage just read is free until the next load.
      auto* const parts_of_sums = reinterpret_cast<float*>(ring + stage * kWarps * kWarpElements<kSize>);
      sums.put(parts_of_sums + warp * kRows * kSize, largest_of[warp], total_of[warp], rows.count);
      stage = stage + 1 < kStages ? stage + 1 : 0;
      __syncthreads();
      if (thread < rows.count) {
        float most = largest_of[0][thread], sum = 0;
        for (int w = 1; w < kWarps; ++w) most = fmaxf(most, largest_of[w][thread]);
        for (int w = 0; w < kWarps; ++w) {
          const float factor = most == -INFINITY ? 0.0f : exp2f(largest_of[w][thread] - most);
          largest_of[w][thread] = factor;
          sum += factor * total_of[w][thread];
        }
        largest[thread] = most;
        total[thread] = sum;
      }
      __syncthreads();
      const auto value = [&](int row, int chunk, float(&out)[kChunk]) {
#pragma unroll
        for (float& x : out) x = 0;
#pragma unroll
        for (int w = 0; w < kWarps; ++w) {
          const auto* const from =
              reinterpret_cast<const float4*>(parts_of_sums + (w * kRows + row) * kSize + (chunk ^ (row & 7)) * kChunk);
          const float4 low = from[0], high = from[1];
          const float factor = largest_of[w][row];
          out[0] = fmaf(factor, low.x, out[0]), out[1] = fmaf(factor, low.y, out[1]);
          out[2] = fmaf(factor, low.z, out[2]), out[3] = fmaf(factor, low.w, out[3]);
          out[4] = fmaf(factor, high.x, out[4]), out[5] = fmaf(factor, high.y, out[5]);
          out[6] = fmaf(factor, high.z, out[6]), out[7] = fmaf(factor, high.w, out[7]);
        }
      };
      const auto store = [&](int row, int chunk, const float(&in)[kChunk]) {
        const int64_t column = rows.column(row);
        store_chunk(task.out, rows.first_token + rows.token(row), column + chunk * kChunk, column + rows.size, in);
      };
      finish_head<kRows>(task, split, at.first_tile(plan, heads), at.tiles, rows.count, largest, total, value, store);
      __syncthreads();
      at.advance(plan, heads, count);
      left -= count;
    }
  }
  clear_masked(task);
}

template <int kSize, int kStages, bool kWholeHeads>
void start(Context& context, const CachedTask& task, const CachedAttention& op) {
  constexpr size_t kBytes = size_t{kStages} * kWarps * kWarpElements<kSize> * sizeof(__nv_bfloat16);
  check(cudaFuncSetAttribute(decode_kernel<kSize, kStages, kWholeHeads>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(kBytes)),
        "asking for shared memory");
  const bool early =
      task.task.tokens <= kWarp && context.rests(op.sequence) && context.rests(op.positions) && context.rests(op.pages);
  launch_early(context, decode_kernel<kSize, kStages, kWholeHeads>, blocks(cached_blocks(context, kTensorDecodeEach)),
               kThreads, kBytes, task, head_pages(op.k_cache), head_pages(op.v_cache), early);
}

template <int kSize, int kStages>
void run(Context& context, const CachedTask& task, const CachedAttention& op) {
  task.whole_heads ? start<kSize, kStages, true>(context, task, op) : start<kSize, kStages, false>(context, task, op);
}

}  // namespace

void tensor_decode(Context& context, const CachedTask& task, const CachedAttention& op) {
  const int capability = context.compute_capability;
  // 96 KiB for the stages of a block; some GPUs give a block 99 KiB in all.
  const bool much_memory = capability == 80 || capability == 87 || capability == 90 || capability / 10 == 10;
  if (task.shape.head_size <= 64) {
    run<64, 4>(context, task, op);
  } else {
    much_memory ? run<128, 3>(context, task, op) : run<128, 2>(context, task, op);
  }
}

}  // namespace moe::cuda
