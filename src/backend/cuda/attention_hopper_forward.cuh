#pragma once
/// Attention's forward pass on Hopper (after FlashAttention-3). A block owns 128 queries of a head and visits tiles of
/// 128 keys, from the queries' own backwards. The next tile's scores are computed while this tile's weights are made.
/// The two warpgroups take turns, so that one multiplies while the other computes exponentials.
///
/// A Source says which queries a block takes, where their keys are, which of them each query sees, and where results
/// go:
///   Work, next(), agreed(work): the rows that a block owns; for a whole warp
///   find(work, row): where the tile of keys from `row` on is; load<kSize>(map, shared, barrier, head, place): starts
///     its copies
///   see(work, row, seen): says in `seen` what the block's rows `row` and row + 8 see
///   seen_of_first(work): keys of the first tile that some row sees. Where it is less than kKeys, the values behind are
///     not numbers that one may multiply by 0 (kClears).
///   finish<kSize>(...): stores the results
///   kRegisters: how the threads share the registers

#include "backend/cuda/hopper_attention.cuh"
#include "backend/cuda/tensor_map.h"

namespace moe::cuda::hopper_tiles {

constexpr int kKeys = 128;  ///< of a tile
constexpr int kStages = 2;

template <class Source>
struct ForwardBarriers {
  uint64_t own_full, own_empty;
  uint64_t key_full[kStages], key_empty[kStages], value_full[kStages], value_empty[kStages];
  typename Source::Work work;
};

template <int kSize, class Source>
struct ForwardMemory {
  static constexpr int kOwnElements = kOwned * kSize, kTileElements = kKeys * kSize;
  static constexpr size_t kBytes =
      (2 * kOwnElements + 2 * kStages * kTileElements) * sizeof(Element) + sizeof(ForwardBarriers<Source>);
};

template <int kSize, class Source>
__device__ void load_tiles(const Source& source, const CUtensorMap& q, const CUtensorMap& k, const CUtensorMap& v,
                           Element* queries, Element* keys, Element* values, ForwardBarriers<Source>& b) {
  using Work = typename Source::Work;
  constexpr unsigned kOwnBytes = kOwned * kSize * sizeof(Element);
  Ring<kStages> ring;
  Work work = source.next();
  for (unsigned turn = 0;; ++turn) {
    wait(&b.own_empty, (turn & 1) ^ 1);
    if (lane() == 0) {
      b.work = work;
      if (work.head < 0) {
        arrive(&b.own_full);
      } else {
        expect_bytes(&b.own_full, kOwnBytes);
        hopper_tiles::load<kSize, kOwned>(q, queries, &b.own_full, work.head, work.first);
      }
    }
    if (work.head < 0) return;
    Work coming{};
    for (int pass = 0; pass < work.passes; ++pass) {
      const int head = work.head / source.group;
      const auto place = source.find(work, work.begin - pass * kKeys);
      wait(b.key_empty + ring.stage, ring.parity ^ 1);
      if (lane() == 0) {
        source.template load<kSize>(k, keys + ring.stage * kKeys * kSize, b.key_full + ring.stage, head, place);
      }
      wait(b.value_empty + ring.stage, ring.parity ^ 1);
      if (lane() == 0) {
        source.template load<kSize>(v, values + ring.stage * kKeys * kSize, b.value_full + ring.stage, head, place);
      }
      __syncwarp();
      ring.advance();
      if (pass == 0) coming = source.next();
    }
    if (work.passes == 0) coming = source.next();
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

/// Sets the values of a tile from row `seen` on to 0. For a warpgroup.
template <int kSize>
__device__ void clear_values(Element* tile, int seen) {
  constexpr int kLineChunks = 64 / kChunk;
  for (int i = static_cast<int>(threadIdx.x) % kWarpgroup; i < (kKeys - seen) * kLineChunks; i += kWarpgroup) {
#pragma unroll
    for (int block = 0; block < kSize / 64; ++block) {
      *reinterpret_cast<uint4*>(tile + block * kKeys * 64 + seen * 64 + i * kChunk) = make_uint4(0, 0, 0, 0);
    }
  }
  show_to_tensor_cores();
  meet(kGroupBarrier + group(), kWarpgroup);
}

template <int kSize, class Source>
__device__ void multiply_tiles(const Source& source, const CUtensorMap& out, const Element* queries,
                               const Element* keys, Element* values, Element* staging, ForwardBarriers<Source>& b) {
  const int group = hopper_tiles::group(), warp = hopper_tiles::warp();
  const float scale = source.scale * kLog2e;  // exponentials to the base 2
  const int turn_of = kTurnBarrier + group, turn_of_other = kTurnBarrier + 1 - group;
  const uint64_t query_tile = describe<kOwned>(queries + group * kHalf * 64);
  const uint64_t key_tiles = describe<kKeys>(keys), value_tiles = describe<kKeys>(values);
  constexpr uint64_t kTileStep = kKeys * kSize * sizeof(Element) >> 4;
  Ring<kStages> key_ring, value_ring;
  if (group == 1) pass_by(turn_of_other, 2 * kWarpgroup);
  for (unsigned turn = 0;; ++turn) {
    wait(&b.own_full, turn & 1);
    const typename Source::Work work = Source::agreed(b.work);
    if (work.head < 0) return;
    const int row = group * kHalf + 16 * warp + lane() / 4;  // of the block
    Seen seen;
    source.see(work, row, seen);
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
      if constexpr (Source::kClears) {
        if (const int all = source.seen_of_first(work); all < kKeys) {
          wait(b.value_full + value_ring.stage, value_ring.parity);
          clear_values<kSize>(values + value_ring.stage * kKeys * kSize, all);
        }
      }
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

    float total[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      total[half] = softmax.total[half];
      total[half] += __shfl_xor_sync(0xffffffffu, total[half], 1);
      total[half] += __shfl_xor_sync(0xffffffffu, total[half], 2);
    }
    source.template finish<kSize>(work, row, seen, softmax, total, sum, out, staging + group * kHalf * kSize);
  }
}

template <int kSize, class Source>
__global__ void __launch_bounds__(kBlockThreads, 1)
    forward_kernel(const Source source, const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k,
                   const __grid_constant__ CUtensorMap v, const __grid_constant__ CUtensorMap out) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(kPatternBytes) unsigned char raw[];
  using S = ForwardMemory<kSize, Source>;
  auto* const queries = reinterpret_cast<Element*>(raw);
  Element* const keys = queries + S::kOwnElements;
  Element* const values = keys + kStages * S::kTileElements;
  Element* const staging = values + kStages * S::kTileElements;
  auto& b = *reinterpret_cast<ForwardBarriers<Source>*>(staging + S::kOwnElements);
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
    give_registers<Source::kRegisters.loading>();
    if (threadIdx.x < kWarp) load_tiles<kSize>(source, q, k, v, queries, keys, values, b);
  } else {
    take_registers<Source::kRegisters.multiplying>();
    multiply_tiles<kSize>(source, out, queries, keys, values, staging, b);
    if (threadIdx.x % kWarpgroup == 0) wait_until_stores_have_read<0>();
  }
#else
  (void)source;
#endif
}

}  // namespace moe::cuda::hopper_tiles
