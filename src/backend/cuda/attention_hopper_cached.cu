// Attention over cached keys on Hopper: tiles of up to 128 queries of one sequence, whose keys and values the copy
// engine loads from pages.

#include "backend/cuda/attention_hopper_forward.cuh"
#include "backend/cuda/cached_attention.cuh"

namespace moe::cuda {
namespace {

using namespace hopper_tiles;

constexpr int kBoxKeys = 64;  ///< of a copy; pages are multiples of it
static_assert(kOwned == kHopperPromptRows && kKeys == 2 * kBoxKeys);

/// The Source of attention_hopper_forward.cuh for a paged cache. Its rows of keys are positions.
struct Paged {
  struct Work {
    int head, first, begin, passes;  ///< as hopper_tiles::Work
    int count, position, sequence;   ///< of the run
  };
  /// The halves of a tile: pages, -1 where no query sees a key; and the line of the first in its page.
  struct Place {
    int page, line, next_page, next_line;
  };
  static constexpr bool kClears = true;  // what is in a page behind the last key
  static constexpr Registers kRegisters{40, 232};

  const Run* runs;
  PlanTotals* totals;
  int heads, group;
  float scale;
  Pages pages;
  Element* out_rows;
  int64_t out_step;

  __device__ static Work agreed(const Work& w) {
    return {hopper_tiles::agreed(w.head),    hopper_tiles::agreed(w.first), hopper_tiles::agreed(w.begin),
            hopper_tiles::agreed(w.passes),  hopper_tiles::agreed(w.count), hopper_tiles::agreed(w.position),
            hopper_tiles::agreed(w.sequence)};
  }

  /// The last tiles, which often see the most keys, come first, and all heads of a tile together.
  __device__ Work next() const {
    int piece = 0;
    if (lane() == 0) piece = atomicAdd(&totals->taken, 1);
    piece = __shfl_sync(0xffffffffu, piece, 0);
    if (piece >= totals->pieces * heads) return {-1, 0, 0, 0, 0, 0, 0};
    const Run run = runs[totals->pieces - 1 - piece / heads];
    const int tile = run.last_position() / kKeys;
    return {piece % heads, run.token, tile * kKeys, tile + 1, run.count, run.position, run.sequence};
  }

  __device__ Place find(const Work& work, int key) const {
    const int next = key + kBoxKeys;
    Place place{pages.of(work.sequence, key), key % pages.tokens, -1, next % pages.tokens};
    if (next < work.position + work.count) place.next_page = pages.of(work.sequence, next);
    return place;
  }
  template <int kSize>
  __device__ static void load(const CUtensorMap& map, Element* shared, uint64_t* barrier, int head,
                              const Place& place) {
    constexpr unsigned kBytes = kBoxKeys * kSize * sizeof(Element);
    expect_bytes(barrier, place.next_page < 0 ? kBytes : 2 * kBytes);
#pragma unroll
    for (int block = 0; block < kSize / 64; ++block) {
      Element* const to = shared + block * kKeys * 64;
      copy_box(map, to, barrier, head * kSize + block * 64, place.line, place.page);
      if (place.next_page < 0) continue;
      copy_box(map, to + kBoxKeys * 64, barrier, head * kSize + block * 64, place.next_line, place.next_page);
    }
  }

  __device__ static void see(const Work& work, int row, Seen& seen) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int of_run = row + 8 * half;
      seen.set(half, of_run < work.count ? 0 : INT32_MAX, work.position + of_run);
    }
  }
  __device__ static int seen_of_first(const Work& work) { return work.position + work.count - work.begin; }

  template <int kSize>
  __device__ void finish(const Work& work, int row, const Seen&, const Softmax&, const float (&total)[2],
                         const float (&sum)[kSize / 2], const CUtensorMap& out, Element* staging) const {
    const int before = hopper_tiles::group() * kHalf;
    if (work.count >= before + kHalf) {
      store_rows<kSize, 0>(out, staging, sum, 1 / total[0], 1 / total[1], work.head, work.first + before);
      return;
    }
    // Rows behind the run's last are other tokens'.
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int of_run = row + 8 * half;
      if (of_run >= work.count) continue;
      const float factor = 1 / total[half];
      Element* const to = out_rows + (work.first + of_run) * out_step + work.head * kSize + lane() % 4 * 2;
#pragma unroll
      for (int j = 0; j < kSize / 8; ++j) {
        *reinterpret_cast<unsigned*>(to + 8 * j) =
            pack(sum[4 * j + 2 * half] * factor, sum[4 * j + 2 * half + 1] * factor);
      }
    }
  }
};

template <int kSize>
void run(Context& context, const CachedTask& task, const CachedAttention& op) {
  const Paged source{.runs = task.plan.pieces,
                     .totals = task.plan.totals,
                     .heads = op.heads,
                     .group = op.heads / op.kv_heads,
                     .scale = op.scale,
                     .pages = task.pages,
                     .out_rows = static_cast<Element*>(op.out.data),
                     .out_step = op.out.stride[0]};
  start(context, forward_kernel<kSize, Paged>, most_pieces(task) * op.heads, ForwardMemory<kSize, Paged>::kBytes,
        source, tensor_map(op.q, kOwned, CachedAttention::name),
        tensor_map(op.k_cache, kBoxKeys, CachedAttention::name),
        tensor_map(op.v_cache, kBoxKeys, CachedAttention::name), tensor_map(op.out, kHalf, CachedAttention::name));
}

}  // namespace

void hopper_prompt(Context& context, const CachedTask& task, const CachedAttention& op) {
  task.shape.head_size == 64 ? run<64>(context, task, op) : run<128>(context, task, op);
}

}  // namespace moe::cuda
