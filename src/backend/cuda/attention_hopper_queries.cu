// dq on Hopper. A block owns 128 queries of a head and visits tiles of 64 keys, from the queries' own backwards. The
// rows of q and d_out stay in registers. The next tile's scores are computed while this tile's part of dq is added.

#include "backend/cuda/attention_hopper_backward.h"
#include "backend/cuda/hopper_attention.cuh"
#include "backend/cuda/tensor_map.h"

namespace moe::cuda {
namespace {

using namespace hopper_tiles;

constexpr int kKeys = 64;  ///< of a tile
constexpr int kStages = 3;

struct Memory {
  uint64_t own_full, own_empty, full[kStages], empty[kStages];
  Work work;
  int start[kOwned];  ///< segment_start of the owned queries; -1 after the last token
  float lse[kOwned];
};

template <int kSize>
struct Shared {
  static constexpr int kOwnElements = kOwned * kSize, kTileElements = kKeys * kSize;
  static constexpr size_t kBytes = (4 * kOwnElements + 2 * kStages * kTileElements) * sizeof(Element) + sizeof(Memory);
};

struct Maps {
  CUtensorMap q, k, v, out, d_out, dq;
};

__device__ Work next_work(const Problem& p) {
  const int piece = take(p);
  if (piece < 0) return {-1, 0, 0, 0};
  const int tiles = p.pieces / p.heads;
  const int first = (tiles - 1 - piece / p.heads) * kOwned;  // the queries that see the most keys first
  const int start = first_key(p, first);
  // At least the queries' own tiles, even if all is padding.
  return {piece % p.heads, first, first + kHalf, max(kOwned / kKeys, (first + kOwned - start / kKeys * kKeys) / kKeys)};
}

template <int kSize>
__device__ void load_tiles(const Problem& p, const Maps& maps, const float* lse, int64_t lse_step, Element* own,
                           Element* ring_memory, Memory& m) {
  constexpr unsigned kOwnBytes = 3 * kOwned * kSize * sizeof(Element),
                     kStageBytes = 2 * kKeys * kSize * sizeof(Element);
  Ring<kStages> ring;
  Work work = next_work(p);
  for (unsigned turn = 0;; ++turn) {
    wait(&m.own_empty, (turn & 1) ^ 1);
    if (lane() == 0) {
      m.work = work;
      if (work.head >= 0) {
        load<kSize, kOwned>(maps.d_out, own, &m.own_full, work.head, work.first);
        load<kSize, kOwned>(maps.q, own + kOwned * kSize, &m.own_full, work.head, work.first);
        load<kSize, kOwned>(maps.out, own + 2 * kOwned * kSize, &m.own_full, work.head, work.first);
      }
    }
    if (work.head < 0) {
      arrive(&m.own_full);
      return;
    }
#pragma unroll
    for (int i = lane(); i < kOwned; i += kWarp) {
      const int t = work.first + i;
      m.start[i] = t < p.tokens ? p.segment_start[t] : -1;
      m.lse[i] = t < p.tokens ? lse[t * lse_step + work.head] : 0.0f;
    }
    lane() == 0 ? expect_bytes(&m.own_full, kOwnBytes) : arrive(&m.own_full);
    Work coming{};
    for (int pass = 0; pass < work.passes; ++pass) {
      wait(m.empty + ring.stage, ring.parity ^ 1);
      if (lane() == 0) {
        const int row = work.begin - pass * kKeys, head = work.head / p.group;
        Element* const stage = ring_memory + ring.stage * 2 * kKeys * kSize;
        expect_bytes(m.full + ring.stage, kStageBytes);
        load<kSize, kKeys>(maps.k, stage, m.full + ring.stage, head, row);
        load<kSize, kKeys>(maps.v, stage + kKeys * kSize, m.full + ring.stage, head, row);
      }
      __syncwarp();
      ring.advance();
      if (pass == 0) coming = next_work(p);
    }
    work = coming;
  }
}

/// d_out . out of the lane's two rows, from d_out's rows in registers.
template <int kSize>
__device__ void row_dots(const unsigned (&d_rows)[kSize / 16][4], const Element* outs, float (&dot)[2]) {
  dot[0] = dot[1] = 0;
#pragma unroll
  for (int k = 0; k < kSize / 16; ++k) {
    unsigned out_rows[4];
    read_rows<kSize>(outs, k, out_rows);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 x = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&d_rows[k][i]));
      const float2 y = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&out_rows[i]));
      dot[i % 2] = fmaf(x.x, y.x, fmaf(x.y, y.y, dot[i % 2]));
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    dot[half] += __shfl_xor_sync(0xffffffffu, dot[half], 1);
    dot[half] += __shfl_xor_sync(0xffffffffu, dot[half], 2);
  }
}

template <int kSize>
__device__ void multiply_tiles(const Problem& p, const CUtensorMap& dq, const HopperStatistics& statistics,
                               const Element* own, const Element* ring_memory, Element* staging, Memory& m) {
  const int group = hopper_tiles::group(), warp = hopper_tiles::warp();
  const float scale = p.scale * kLog2e;
  const Element* const mine = own + group * kHalf * 64;
  const uint64_t stages = describe<kKeys>(ring_memory);
  constexpr uint64_t kTileStep = kKeys * kSize * sizeof(Element) >> 4;  // a stage: keys, then values
  Ring<kStages> ring;
  for (unsigned turn = 0;; ++turn) {
    wait(&m.own_full, turn & 1);
    const Work work = agreed(m.work);
    if (work.head < 0) return;
    unsigned d_rows[kSize / 16][4], q_rows[kSize / 16][4];
    float delta[2], lse2[2];
#pragma unroll
    for (int k = 0; k < kSize / 16; ++k) {
      read_rows<kSize>(mine + kOwned * kSize, k, q_rows[k]);
      read_rows<kSize>(mine, k, d_rows[k]);
    }
    const int row = group * kHalf + 16 * warp + lane() / 4;
    Seen seen;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int start = m.start[row + 8 * half];
      seen.set(half, start < 0 ? INT32_MAX : start, work.first + row + 8 * half);
      lse2[half] = start < 0 ? 0.0f : kLog2e * m.lse[row + 8 * half];
    }
    seen.agree();

    float scores[kKeys / 2], d_scores[kKeys / 2], sum[kSize / 2];
    unsigned d_weights[kKeys / 16][4];
#pragma unroll
    for (float& value : sum) value = 0;
    const auto probabilities = [&](int pass) {
      settle(scores);
      seen.hide(scores, work.begin - pass * kKeys);
#pragma unroll
      for (int i = 0; i < kKeys / 2; ++i) scores[i] = exp2_fast(fmaf(scores[i], scale, -lse2[i / 2 % 2]));
    };
    const auto differentiate = [&] {
      settle(d_scores);
#pragma unroll
      for (int i = 0; i < kKeys / 2; i += 2) {
        const float less = delta[i / 2 % 2];
        d_weights[i / 8][i / 2 % 4] = pack(scores[i] * (d_scores[i] - less), scores[i + 1] * (d_scores[i + 1] - less));
      }
    };
    int pass = 0;
    if (group == 0) {  // keys after this half's queries
      wait(m.full + ring.stage, ring.parity);
      speak(m.empty + ring.stage);
      ring.advance();
      ++pass;
    }
    wait(m.full + ring.stage, ring.parity);
    uint64_t pending = stages + ring.stage * 2 * kTileStep;  // the stage whose part of dq has not been added yet
    int pending_stage = ring.stage;
    begin_products();
    row_products<kSize>(scores, q_rows, pending);
    commit_products();
    row_products<kSize>(d_scores, d_rows, pending + kTileStep);
    commit_products();
    row_dots<kSize>(d_rows, mine + 2 * kOwned * kSize, delta);
    arrive(&m.own_empty);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (seen.hides_all(half)) delta[half] = 0;
      if (lane() % 4 != 0) continue;
      const int64_t at = work.head * statistics.rows + work.first + row + 8 * half;
      statistics.lse2[at] = lse2[half];
      statistics.delta[at] = delta[half];
    }
    wait_for_products<1>();
    probabilities(pass);
    wait_for_products<0>();
    differentiate();
    ring.advance();
    for (++pass; pass < work.passes; ++pass) {
      const uint64_t stage = stages + ring.stage * 2 * kTileStep;
      wait(m.full + ring.stage, ring.parity);
      begin_products();
      row_products<kSize>(scores, q_rows, stage);
      commit_products();
      weighted_rows(sum, d_weights, pending);
      commit_products();
      row_products<kSize>(d_scores, d_rows, stage + kTileStep);
      commit_products();
      wait_for_products<2>();
      probabilities(pass);
      wait_for_products<1>();
      settle(sum);
      settle(d_weights);
      speak(m.empty + pending_stage);
      wait_for_products<0>();
      differentiate();
      pending = stage;
      pending_stage = ring.stage;
      ring.advance();
    }
    begin_products();
    weighted_rows(sum, d_weights, pending);
    commit_products();
    wait_for_products<0>();
    settle(sum);
    settle(d_weights);
    speak(m.empty + pending_stage);
    store_rows<kSize, 0>(dq, staging + group * kHalf * kSize, sum, p.scale, p.scale, work.head,
                         work.first + group * kHalf);
  }
}

template <int kSize>
__global__ void __launch_bounds__(kBlockThreads, 1)
    query_gradient_kernel(const Problem p, const __grid_constant__ Maps maps, const float* lse, int64_t lse_step,
                          const HopperStatistics statistics) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(kPatternBytes) unsigned char raw[];
  using S = Shared<kSize>;
  auto* const own = reinterpret_cast<Element*>(raw);
  Element* const ring_memory = own + 3 * S::kOwnElements;
  Element* const staging = ring_memory + 2 * kStages * S::kTileElements;
  auto& m = *reinterpret_cast<Memory*>(staging + S::kOwnElements);
  if (threadIdx.x == 0) {
    init_barrier(&m.own_full, kWarp);  // every loading lane has written something
    init_barrier(&m.own_empty, kEveryone);
    for (int i = 0; i < kStages; ++i) {
      init_barrier(m.full + i, 1);
      init_barrier(m.empty + i, kSpeakers);
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kWarpgroup) {
    give_registers<kLoadRegisters>();
    if (threadIdx.x < kWarp) load_tiles<kSize>(p, maps, lse, lse_step, own, ring_memory, m);
  } else {
    take_registers<kMultiplyRegisters>();
    multiply_tiles<kSize>(p, maps.dq, statistics, own, ring_memory, staging, m);
    if (threadIdx.x % kWarpgroup == 0) wait_until_stores_have_read<0>();
  }
#else
  (void)p, (void)lse, (void)lse_step, (void)statistics;
#endif
}

template <int kSize>
void run(Context& context, const AttentionBackward& op, const AttentionShape& shape, int* taken,
         const HopperStatistics& statistics) {
  constexpr const char* kName = AttentionBackward::name;
  const int64_t pieces = ceil_div(shape.tokens, kOwned) * shape.heads;
  const Maps maps{.q = tensor_map(op.q, kOwned, kName),
                  .k = tensor_map(op.k, kKeys, kName),
                  .v = tensor_map(op.v, kKeys, kName),
                  .out = tensor_map(op.out, kOwned, kName),
                  .d_out = tensor_map(op.d_out, kOwned, kName),
                  .dq = tensor_map(op.dq, kHalf, kName)};
  start(context, query_gradient_kernel<kSize>, pieces, Shared<kSize>::kBytes,
        problem(shape, op.segment_start.as<const int32_t>(), taken, pieces), maps, op.lse.as<const float>(),
        op.lse.stride[0], statistics);
}

}  // namespace

void hopper_query_gradient(Context& context, const AttentionBackward& op, const AttentionShape& shape, int* taken,
                           const HopperStatistics& statistics) {
  shape.head_size == 64 ? run<64>(context, op, shape, taken, statistics)
                        : run<128>(context, op, shape, taken, statistics);
}

}  // namespace moe::cuda
