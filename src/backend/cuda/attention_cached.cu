// Attention over cached keys on the tensor cores of every supported GPU: tiles of up to 64 queries of one sequence.

#include "backend/cuda/attention_forward.cuh"
#include "backend/cuda/cached_attention.cuh"

namespace moe::cuda {
namespace {

using namespace tiles;
static_assert(kRows == kTensorPromptRows);

/// The Source of attention_forward.cuh for a paged cache. Its keys are positions.
struct Paged {
  struct Tile {
    int64_t first, end, first_key, passes;
    Run run;
  };
  const Run* runs;
  const PlanTotals* totals;
  Pages pages;
  HeadPages k, v;

  /// The last tiles, which often see the most keys, come first.
  __device__ Tile aim(int block, int) const {
    if (block >= totals->pieces) return {};
    const Run run = runs[totals->pieces - 1 - block];
    return {run.token, run.token + run.count, 0, run.last_position() / kRows + 1, run};
  }
  __device__ static void see(const Tile& tile, int query, int& first, int& last) {
    first = 0;
    last = tile.run.position + query - tile.run.token;
  }
  /// Rows behind the last key become zeros.
  template <int kSize>
  __device__ void load(const Tile& tile, int64_t key, int64_t column, int size, __nv_bfloat16* keys,
                       __nv_bfloat16* values) const {
    constexpr int kRowChunks = kSize / kChunk;
    const int chunk = static_cast<int>(threadIdx.x) % kRowChunks, first = static_cast<int>(key);
    const bool inside = chunk * kChunk < size, one_page = pages.tokens % kRows == 0;
    const int last = tile.run.last_position();
    int page = pages.of(tile.run.sequence, first), line = first % pages.tokens;
#pragma unroll 4
    for (int row = static_cast<int>(threadIdx.x) / kRowChunks; row < kRows; row += kThreads / kRowChunks) {
      const bool valid = inside && first + row <= last;
      if (!one_page && valid) {
        page = pages.of(tile.run.sequence, first + row);
        line = (first + row) % pages.tokens - row;
      }
      const int64_t at = valid ? column + chunk * kChunk : 0;
      copy_chunk(keys + place<kSize>(row, chunk),
                 k.data + (valid ? page * k.page_step + (line + row) * k.step + at : 0), valid);
      copy_chunk(values + place<kSize>(row, chunk),
                 v.data + (valid ? page * v.page_step + (line + row) * v.step + at : 0), valid);
    }
  }
  __device__ static void finish(int, int, bool, float, float) {}
};

}  // namespace

void tensor_prompt(Context& context, const CachedTask& task, const CachedAttention& op) {
  const Paged source{.runs = task.plan.pieces,
                     .totals = task.plan.totals,
                     .pages = task.pages,
                     .k = head_pages(op.k_cache),
                     .v = head_pages(op.v_cache)};
  const int64_t count = most_pieces(task);
  task.shape.head_size <= 64 ? start_forward<64>(context, source, count, op.q, op.out, task.shape)
                             : start_forward<128>(context, source, count, op.q, op.out, task.shape);
}

}  // namespace moe::cuda
