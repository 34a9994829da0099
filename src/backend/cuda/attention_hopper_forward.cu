// Attention's forward pass on Hopper (after FlashAttention-3). A block owns 128 queries of a head and visits tiles of
// 128 keys, from the queries' own backwards. The next tile's scores are computed while this tile's weights are made.
// The two warpgroups take turns, so that one multiplies while the other computes exponentials.

#include "backend/cuda/attention.h"
#include "backend/cuda/hopper_attention.cuh"
#include "backend/cuda/tensor_map.h"

namespace moe::cuda {
namespace {

using namespace hopper_tiles;

constexpr int kKeys = 128;  ///< of a tile
constexpr int kStages = 2;

struct Barriers {
  uint64_t own_full, own_empty;
  uint64_t key_full[kStages], key_empty[kStages], value_full[kStages], value_empty[kStages];
  Work work;
};

template <int kSize>
struct Shared {
  static constexpr int kOwnElements = kOwned * kSize, kTileElements = kKeys * kSize;
  static constexpr size_t kBytes =
      (2 * kOwnElements + 2 * kStages * kTileElements) * sizeof(Element) + sizeof(Barriers);
};

/// The warp's next queries. The last queries, which see the most keys, come first, and all heads of some queries come
/// before the next queries.
__device__ Work next_work(const Problem& p) {
  const int piece = take(p);
  if (piece < 0) return {-1, 0, 0, 0};
  const int tiles = p.pieces / p.heads;
  const int first = (tiles - 1 - piece / p.heads) * kOwned;
  const int start = first_key(p, first);
  return {piece % p.heads, first, first, start == INT32_MAX ? 0 : (first - start / kKeys * kKeys) / kKeys + 1};
}

template <int kSize>
__device__ void load_tiles(const Problem& p, const CUtensorMap& q, const CUtensorMap& k, const CUtensorMap& v,
                           Element* queries, Element* keys, Element* values, Barriers& b) {
  constexpr unsigned kOwnBytes = kOwned * kSize * sizeof(Element), kTileBytes = kKeys * kSize * sizeof(Element);
  Ring<kStages> ring;
  Work work = next_work(p);
  for (unsigned turn = 0;; ++turn) {
    wait(&b.own_empty, (turn & 1) ^ 1);
    if (lane() == 0) {
      b.work = work;
      if (work.head < 0) {
        arrive(&b.own_full);
      } else {
        expect_bytes(&b.own_full, kOwnBytes);
        load<kSize, kOwned>(q, queries, &b.own_full, work.head, work.first);
      }
    }
    if (work.head < 0) return;
    Work coming{};
    for (int pass = 0; pass < work.passes; ++pass) {
      const int row = work.begin - pass * kKeys, head = work.head / p.group;
      wait(b.key_empty + ring.stage, ring.parity ^ 1);
      if (lane() == 0) {
        expect_bytes(b.key_full + ring.stage, kTileBytes);
        load<kSize, kKeys>(k, keys + ring.stage * kKeys * kSize, b.key_full + ring.stage, head, row);
      }
      wait(b.value_empty + ring.stage, ring.parity ^ 1);
      if (lane() == 0) {
        expect_bytes(b.value_full + ring.stage, kTileBytes);
        load<kSize, kKeys>(v, values + ring.stage * kKeys * kSize, b.value_full + ring.stage, head, row);
      }
      __syncwarp();
      ring.advance();
      if (pass == 0) coming = next_work(p);
    }
    if (work.passes == 0) coming = next_work(p);
    work = coming;
  }
}

/// The softmax of one tile, combined with the tiles before it.
struct Softmax {
  float largest[2] = {-INFINITY, -INFINITY};  ///< of the scaled scores, to the base 2
  float total[2] = {0, 0};                    ///< of this lane's columns
  float shrink[2] = {0, 0};                   ///< the factor for the sums of the tiles before

  /// Scores become weights.
  __device__ void add(float (&scores)[kKeys / 2], float scale) {
    float base[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float value[2] = {scores[2 * half], scores[2 * half + 1]};
#pragma unroll
      for (int j = 1; j < kKeys / 8; ++j) {
        value[0] = fmaxf(value[0], scores[4 * j + 2 * half]);
        value[1] = fmaxf(value[1], scores[4 * j + 2 * half + 1]);
      }
      float found = fmaxf(value[0], value[1]);
      found = fmaxf(found, __shfl_xor_sync(0xffffffffu, found, 1));
      found = fmaxf(found, __shfl_xor_sync(0xffffffffu, found, 2));
      found = fmaxf(found * scale, largest[half]);
      base[half] = found == -INFINITY ? 0.0f : found;  // a row that has not seen a key yet: every weight is 0
      shrink[half] = exp2_fast(largest[half] - base[half]);
      largest[half] = found;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum[2] = {0, 0};
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& score = scores[4 * j + 2 * half + i];
          score = exp2_fast(fmaf(score, scale, -base[half]));
          sum[i] += score;
        }
      }
      total[half] = fmaf(total[half], shrink[half], sum[0] + sum[1]);
    }
  }
};

template <int kSize>
__device__ void multiply_tiles(const Problem& p, const CUtensorMap& out, float* lse, int64_t lse_step,
                               const Element* queries, const Element* keys, const Element* values, Element* staging,
                               Barriers& b) {
  const int group = hopper_tiles::group(), warp = hopper_tiles::warp();
  const float scale = p.scale * kLog2e;  // exponentials to the base 2
  const int turn_of = kTurnBarrier + group, turn_of_other = kTurnBarrier + 1 - group;
  const uint64_t query_tile = describe<kOwned>(queries + group * kHalf * 64);
  const uint64_t key_tiles = describe<kKeys>(keys), value_tiles = describe<kKeys>(values);
  constexpr uint64_t kTileStep = kKeys * kSize * sizeof(Element) >> 4;
  Ring<kStages> key_ring, value_ring;
  if (group == 1) pass_by(turn_of_other, 2 * kWarpgroup);
  for (unsigned turn = 0;; ++turn) {
    wait(&b.own_full, turn & 1);
    const Work work = agreed(b.work);
    if (work.head < 0) return;
    const int row = work.first + group * kHalf + 16 * warp + lane() / 4;
    Seen seen;
    bool padding[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int t = row + 8 * half, start = t < p.tokens ? p.segment_start[t] : -1;
      padding[half] = start < 0;
      seen.set(half, start < 0 ? INT32_MAX : start, t);
    }
    seen.agree();

    Softmax softmax;
    float scores[kKeys / 2], sum[kSize / 2];
    unsigned weights[kKeys / 16][4];
#pragma unroll
    for (float& value : sum) value = 0;
    if (work.passes > 0) {
      wait(b.key_full + key_ring.stage, key_ring.parity);
      meet(turn_of, 2 * kWarpgroup);
      begin_products();
      row_products<kSize, kOwned>(scores, query_tile, key_tiles + key_ring.stage * kTileStep);
      commit_products();
      pass_by(turn_of_other, 2 * kWarpgroup);
      wait_for_products<0>();
      settle(scores);
      speak(b.key_empty + key_ring.stage);
      key_ring.advance();
      seen.hide(scores, work.begin);
      softmax.add(scores, scale);
      pack<kKeys / 16>(scores, weights);
    }
    for (int pass = 1; pass < work.passes; ++pass) {
      wait(b.key_full + key_ring.stage, key_ring.parity);
      meet(turn_of, 2 * kWarpgroup);
      begin_products();
      row_products<kSize, kOwned>(scores, query_tile, key_tiles + key_ring.stage * kTileStep);
      commit_products();
      wait(b.value_full + value_ring.stage, value_ring.parity);
      weighted_rows(sum, weights, value_tiles + value_ring.stage * kTileStep);
      commit_products();
      pass_by(turn_of_other, 2 * kWarpgroup);
      wait_for_products<1>();
      settle(scores);
      speak(b.key_empty + key_ring.stage);
      key_ring.advance();
      seen.hide(scores, work.begin - pass * kKeys);
      softmax.add(scores, scale);
      wait_for_products<0>();
      settle(sum);
      settle(weights);
      speak(b.value_empty + value_ring.stage);
      value_ring.advance();
      pack<kKeys / 16>(scores, weights);
#pragma unroll
      for (int i = 0; i < kSize / 2; ++i) sum[i] *= softmax.shrink[i / 2 % 2];
    }
    arrive(&b.own_empty);
    if (work.passes > 0) {
      wait(b.value_full + value_ring.stage, value_ring.parity);
      begin_products();
      weighted_rows(sum, weights, value_tiles + value_ring.stage * kTileStep);
      commit_products();
      wait_for_products<0>();
      settle(sum);
      settle(weights);
      speak(b.value_empty + value_ring.stage);
      value_ring.advance();
    }

    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float total = softmax.total[half];
      total += __shfl_xor_sync(0xffffffffu, total, 1);
      total += __shfl_xor_sync(0xffffffffu, total, 2);
      factor[half] = padding[half] ? 0.0f : 1 / total;
      const int t = row + 8 * half;
      if (lane() % 4 != 0 || t >= p.tokens) continue;
      lse[t * lse_step + work.head] = padding[half] ? 0.0f : (softmax.largest[half] + log2f(total)) / kLog2e;
    }
    store_rows<kSize, 0>(out, staging + group * kHalf * kSize, sum, factor[0], factor[1], work.head,
                         work.first + group * kHalf);
  }
}

template <int kSize>
__global__ void __launch_bounds__(kBlockThreads, 1)
    attention_kernel(const Problem p, const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k,
                     const __grid_constant__ CUtensorMap v, const __grid_constant__ CUtensorMap out, float* lse,
                     int64_t lse_step) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(kPatternBytes) unsigned char raw[];
  using S = Shared<kSize>;
  auto* const queries = reinterpret_cast<Element*>(raw);
  Element* const keys = queries + S::kOwnElements;
  Element* const values = keys + kStages * S::kTileElements;
  Element* const staging = values + kStages * S::kTileElements;
  auto& b = *reinterpret_cast<Barriers*>(staging + S::kOwnElements);
  if (threadIdx.x == 0) {
    init_barrier(&b.own_full, 1);
    init_barrier(&b.own_empty, kEveryone);
    for (int i = 0; i < kStages; ++i) {
      init_barrier(b.key_full + i, 1);
      init_barrier(b.value_full + i, 1);
      init_barrier(b.key_empty + i, kSpeakers);
      init_barrier(b.value_empty + i, kSpeakers);
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kWarpgroup) {
    give_registers<kLoadRegisters>();
    if (threadIdx.x < kWarp) load_tiles<kSize>(p, q, k, v, queries, keys, values, b);
  } else {
    take_registers<kMultiplyRegisters>();
    multiply_tiles<kSize>(p, out, lse, lse_step, queries, keys, values, staging, b);
    if (threadIdx.x % kWarpgroup == 0) wait_until_stores_have_read<0>();
  }
#else
  (void)p, (void)lse, (void)lse_step;
#endif
}

template <int kSize>
void run(Context& context, const Attention& op, const AttentionShape& shape) {
  Carver carver(context, Attention::name);
  const int64_t pieces = ceil_div(shape.tokens, kOwned) * shape.heads;
  int* const taken = zero_counters(context, carver, 1);
  start(context, attention_kernel<kSize>, pieces, Shared<kSize>::kBytes,
        problem(shape, op.segment_start.as<const int32_t>(), taken, pieces), tensor_map(op.q, kOwned, Attention::name),
        tensor_map(op.k, kKeys, Attention::name), tensor_map(op.v, kKeys, Attention::name),
        tensor_map(op.out, kHalf, Attention::name), op.lse.as<float>(), op.lse.stride[0]);
}

}  // namespace

void hopper_attention(Context& context, const Attention& op, const AttentionShape& shape) {
  shape.head_size == 64 ? run<64>(context, op, shape) : run<128>(context, op, shape);
}

}  // namespace moe::cuda
