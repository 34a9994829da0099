// dk and dv on Hopper. A block owns 128 keys of a head and visits tiles of 64 queries, from the keys' own to the last
// query of their documents, for every head that reads them. Scores are transposed: their rows are keys. So they can be
// the first operand of the products for dv and dk directly from registers.

#include "backend/cuda/attention_hopper_backward.h"
#include "backend/cuda/hopper_attention.cuh"
#include "backend/cuda/tensor_map.h"

namespace moe::cuda {
namespace {

using namespace hopper_tiles;

constexpr int kQueries = 64;  ///< of a tile
constexpr int kStages = 3;

/// A stage's statistics of its queries.
struct Columns {
  float lse2[kQueries], delta[kQueries];
};

struct Memory {
  Columns columns[kStages];
  uint64_t own_full, own_empty, full[kStages], empty[kStages];
  Work work;
  int last[kOwned];  ///< last_query of the owned keys; -1 after the last token
};

template <int kSize>
struct Shared {
  static constexpr int kOwnElements = kOwned * kSize, kTileElements = kQueries * kSize;
  static constexpr size_t kBytes = (4 * kOwnElements + 2 * kStages * kTileElements) * sizeof(Element) + sizeof(Memory);
};

struct Maps {
  CUtensorMap q, k, v, d_out, dk, dv;
};

/// The warp's next keys. The first keys, which the most queries see, come first. `segment_start` of p is last_query
/// here.
__device__ Work next_work(const Problem& p) {
  const int piece = take(p);
  if (piece < 0) return {-1, 0, 0, 0};
  const int kv_heads = p.heads / p.group, first = piece / kv_heads * kOwned;
  int last = -1;
#pragma unroll
  for (int i = 0; i < kOwned / kWarp; ++i) {
    const int u = first + i * kWarp + lane();
    if (u < p.tokens) last = max(last, p.segment_start[u]);
  }
  last = __reduce_max_sync(0xffffffffu, last);
  return {piece % kv_heads, first, first, last < 0 ? 0 : (last - first) / kQueries + 1};
}

template <int kSize>
__device__ void load_tiles(const Problem& p, const Maps& maps, const HopperStatistics& statistics, Element* own,
                           Element* ring_memory, Memory& m) {
  constexpr unsigned kOwnBytes = 2 * kOwned * kSize * sizeof(Element);
  constexpr unsigned kStageBytes = 2 * kQueries * kSize * sizeof(Element) + sizeof(Columns);
  Ring<kStages> ring;
  Work work = next_work(p);
  for (unsigned turn = 0;; ++turn) {
    wait(&m.own_empty, (turn & 1) ^ 1);
    if (lane() == 0) {
      m.work = work;
      if (work.head >= 0) {
        load<kSize, kOwned>(maps.k, own, &m.own_full, work.head, work.first);
        load<kSize, kOwned>(maps.v, own + kOwned * kSize, &m.own_full, work.head, work.first);
      }
    }
    if (work.head < 0) {
      arrive(&m.own_full);
      return;
    }
#pragma unroll
    for (int i = lane(); i < kOwned; i += kWarp) {
      m.last[i] = work.first + i < p.tokens ? p.segment_start[work.first + i] : -1;
    }
    lane() == 0 ? expect_bytes(&m.own_full, kOwnBytes) : arrive(&m.own_full);
    Work coming{};
    bool asked = false;
    for (int member = 0; member < p.group; ++member) {
      const int head = work.head * p.group + member;
      for (int pass = 0; pass < work.passes; ++pass) {
        wait(m.empty + ring.stage, ring.parity ^ 1);
        if (lane() == 0) {
          const int row = work.begin + pass * kQueries;
          Element* const stage = ring_memory + ring.stage * 2 * kQueries * kSize;
          uint64_t* const barrier = m.full + ring.stage;
          expect_bytes(barrier, kStageBytes);
          load<kSize, kQueries>(maps.q, stage, barrier, head, row);
          load<kSize, kQueries>(maps.d_out, stage + kQueries * kSize, barrier, head, row);
          const int64_t at = head * statistics.rows + row;
          copy_bytes(statistics.lse2 + at, m.columns[ring.stage].lse2, barrier, sizeof(Columns) / 2);
          copy_bytes(statistics.delta + at, m.columns[ring.stage].delta, barrier, sizeof(Columns) / 2);
        }
        __syncwarp();
        ring.advance();
        if (!asked) coming = next_work(p);
        asked = true;
      }
    }
    if (!asked) coming = next_work(p);
    work = coming;
  }
}

template <int kSize>
__device__ void multiply_tiles(const Problem& p, const Maps& maps, const Element* own, const Element* ring_memory,
                               Element* staging, Memory& m) {
  const int group = hopper_tiles::group(), warp = hopper_tiles::warp();
  const float scale = p.scale * kLog2e;
  const uint64_t keys = describe<kOwned>(own + group * kHalf * 64);
  const uint64_t values = describe<kOwned>(own + kOwned * kSize + group * kHalf * 64);
  const uint64_t stages = describe<kQueries>(ring_memory);
  constexpr uint64_t kTileStep = kQueries * kSize * sizeof(Element) >> 4;  // a stage: queries, then their d_out
  Ring<kStages> ring;
  for (unsigned turn = 0;; ++turn) {
    wait(&m.own_full, turn & 1);
    const Work work = agreed(m.work);
    if (work.head < 0) return;
    const int half_first = work.first + group * kHalf, row = 16 * warp + lane() / 4;
    const int* const last = m.last + group * kHalf;
    Seen seen;
#pragma unroll
    for (int half = 0; half < 2; ++half) seen.set(half, half_first + row + 8 * half, last[row + 8 * half]);
    seen.agree();
    const int half_last = agreed(__reduce_max_sync(0xffffffffu, max(last[lane()], last[kWarp + lane()])));

    float scores[kQueries / 2], d_scores[kQueries / 2], k_sum[kSize / 2], v_sum[kSize / 2];
    unsigned weights[kQueries / 16][4], d_weights[kQueries / 16][4];
#pragma unroll
    for (int i = 0; i < kSize / 2; ++i) k_sum[i] = v_sum[i] = 0;
    for (int pass = 0, all = work.passes * p.group, query = work.begin; pass < all; ++pass) {
      wait(m.full + ring.stage, ring.parity);
      // Unless none of these queries sees one of this half's keys:
      if (query + kQueries > half_first && query <= half_last) {
        const uint64_t stage = stages + ring.stage * 2 * kTileStep;
        const Columns& columns = m.columns[ring.stage];
        begin_products();
        row_products<kSize, kOwned>(scores, keys, stage);
        commit_products();
        row_products<kSize, kOwned>(d_scores, values, stage + kTileStep);
        commit_products();
        wait_for_products<1>();
        settle(scores);
        seen.hide(scores, query);
#pragma unroll
        for (int j = 0; j < kQueries / 8; ++j) {
          const float2 lse2 = *reinterpret_cast<const float2*>(columns.lse2 + 8 * j + lane() % 4 * 2);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            scores[4 * j + i] = exp2_fast(fmaf(scores[4 * j + i], scale, i % 2 == 0 ? -lse2.x : -lse2.y));
          }
        }
        pack<kQueries / 16>(scores, weights);
        wait_for_products<0>();
        settle(d_scores);
        if (pass + 1 == all) arrive(&m.own_empty);  // early: the next keys are loaded while these are finished
        begin_products();
        weighted_rows(v_sum, weights, stage + kTileStep);
        commit_products();
#pragma unroll
        for (int j = 0; j < kQueries / 8; ++j) {
          const float2 delta = *reinterpret_cast<const float2*>(columns.delta + 8 * j + lane() % 4 * 2);
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const int at = 4 * j + 2 * i;
            d_weights[j / 2][j % 2 * 2 + i] =
                pack(scores[at] * (d_scores[at] - delta.x), scores[at + 1] * (d_scores[at + 1] - delta.y));
          }
        }
        begin_products();
        weighted_rows(k_sum, d_weights, stage);
        commit_products();
        wait_for_products<0>();
        settle(v_sum);
        settle(k_sum);
        settle(weights);
        settle(d_weights);
      } else if (pass + 1 == all) {
        arrive(&m.own_empty);
      }
      arrive(m.empty + ring.stage);
      ring.advance();
      query += kQueries;
      if (query == work.begin + work.passes * kQueries) query = work.begin;
    }
    if (work.passes == 0) arrive(&m.own_empty);
    Element* const room = staging + group * kHalf * kSize;
    store_rows<kSize, 1>(maps.dv, room, v_sum, 1.0f, 1.0f, work.head, half_first);
    store_rows<kSize, 1>(maps.dk, room + kOwned * kSize, k_sum, p.scale, p.scale, work.head, half_first);
  }
}

template <int kSize>
__global__ void __launch_bounds__(kBlockThreads, 1)
    key_gradient_kernel(const Problem p, const __grid_constant__ Maps maps, const HopperStatistics statistics) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(kPatternBytes) unsigned char raw[];
  using S = Shared<kSize>;
  auto* const own = reinterpret_cast<Element*>(raw);
  Element* const ring_memory = own + 2 * S::kOwnElements;
  Element* const staging = ring_memory + 2 * kStages * S::kTileElements;
  auto& m = *reinterpret_cast<Memory*>(staging + 2 * S::kOwnElements);
  if (threadIdx.x == 0) {
    init_barrier(&m.own_full, kWarp);  // every loading lane has written something
    init_barrier(&m.own_empty, kEveryone);
    for (int i = 0; i < kStages; ++i) {
      init_barrier(m.full + i, 1);
      init_barrier(m.empty + i, kEveryone);  // statistics are read by every thread
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kWarpgroup) {
    give_registers<kLoadRegisters>();
    if (threadIdx.x < kWarp) load_tiles<kSize>(p, maps, statistics, own, ring_memory, m);
  } else {
    take_registers<kMultiplyRegisters>();
    multiply_tiles<kSize>(p, maps, own, ring_memory, staging, m);
    if (threadIdx.x % kWarpgroup == 0) wait_until_stores_have_read<0>();
  }
#else
  (void)p, (void)statistics;
#endif
}

template <int kSize>
void run(Context& context, const AttentionBackward& op, const AttentionShape& shape, int* taken,
         const HopperStatistics& statistics, const int* last_query) {
  constexpr const char* kName = AttentionBackward::name;
  const int64_t pieces = ceil_div(shape.tokens, kOwned) * shape.kv_heads;
  const Maps maps{.q = tensor_map(op.q, kQueries, kName),
                  .k = tensor_map(op.k, kOwned, kName),
                  .v = tensor_map(op.v, kOwned, kName),
                  .d_out = tensor_map(op.d_out, kQueries, kName),
                  .dk = tensor_map(op.dk, kHalf, kName),
                  .dv = tensor_map(op.dv, kHalf, kName)};
  start(context, key_gradient_kernel<kSize>, pieces, Shared<kSize>::kBytes, problem(shape, last_query, taken, pieces),
        maps, statistics);
}

}  // namespace

void hopper_key_gradient(Context& context, const AttentionBackward& op, const AttentionShape& shape, int* taken,
                         const HopperStatistics& statistics, const int* last_query) {
  shape.head_size == 64 ? run<64>(context, op, shape, taken, statistics, last_query)
                        : run<128>(context, op, shape, taken, statistics, last_query);
}

void hopper_attention(Context& context, const AttentionBackward& op, const AttentionShape& shape) {
  Carver carver(context, AttentionBackward::name);
  const int64_t rows = ceil_div(shape.tokens, kOwned) * kOwned;
  const HopperStatistics statistics{
      .lse2 = carver.take<float>(rows * shape.heads), .delta = carver.take<float>(rows * shape.heads), .rows = rows};
  const int* const last_query = last_queries(context, carver, op.segment_start);
  int* const taken = zero_counters(context, carver, 2);
  hopper_query_gradient(context, op, shape, taken, statistics);
  hopper_key_gradient(context, op, shape, taken + 1, statistics, last_query);
}

}  // namespace moe::cuda
