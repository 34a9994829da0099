#pragma once
/// The kernel of block_rows.h. Its instances are compiled in several files.

#include "backend/cuda/block_types.cuh"
#include "backend/cuda/early.cuh"
#include "backend/cuda/few_rows_problem.cuh"
#include "backend/cuda/tensor_core.cuh"

namespace moe::cuda::block_rows {

using few_rows::Active, few_rows::FewRows, few_rows::store_result;
using few_rows::kThreads, few_rows::kTokens, few_rows::kTokenStep, few_rows::kWarps;

constexpr int kRows = 16;           ///< of the weight in a tile of the tensor cores
constexpr int kStages = 2;          ///< of a warp, in shared memory or on their way there
constexpr int kBlocksTogether = 2;  ///< on a multiprocessor
constexpr int kChunkBytes = 16;
constexpr unsigned kOnes = 0x3f803f80u;  ///< two ones in bf16

/// Rows of the weight that one item's outputs need; with SwiGLU half of the tile's rows are gates.
template <bool kSwiglu>
constexpr int kOutputs = kSwiglu ? kRows / 2 : kRows;

/// The most chunks in which a stage of a row's blocks is; they may begin at any even place in the first one.
template <class Type>
constexpr int kChunks = (Type::kStage * Type::kBytes + kChunkBytes - 2 + kChunkBytes - 1) / kChunkBytes;
/// Bytes from row to row of a stage: an odd number of chunks, so that eight rows are in different banks.
template <class Type>
constexpr int kPitch = kChunks<Type> / 2 * 2 * kChunkBytes + kChunkBytes;
template <class Type>
constexpr int kStageBytes = kRows* kPitch<Type>;
template <class Type>
constexpr int kRingBytes = kWarps* kStages* kStageBytes<Type>;
constexpr int kSumBytes = kWarps * kTokens * kTokenStep * static_cast<int>(sizeof(float));

/// What a block computes at a time. Without rows of x: there is no such item.
struct Item {
  int slab;                ///< counted over all experts that have rows
  int output;              ///< the first one of the slab
  int first, end;          ///< rows of x from `first` on; those of the expert end before `end`
  const uint8_t* weights;  ///< the warp's first block of the expert's first row
};

/// Starts the copy of a lane's chunks of `bytes` bytes: every fourth one. Chunks are aligned; `end` is behind the last
/// byte that may be read.
template <class Type>
__device__ void copy_chunks(uint8_t* to, const uint8_t* from, int bytes, const uint8_t* end) {
  constexpr int kEach = (kChunks<Type> + 3) / 4;
  const int chunk = static_cast<int>(threadIdx.x) % 4 * kChunkBytes;
  if (from + (bytes + kChunkBytes - 1) / kChunkBytes * kChunkBytes <= end) {
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int at = chunk + 4 * j * kChunkBytes;
      if (at < bytes) copy_whole_chunk(static_cast<unsigned>(__cvta_generic_to_shared(to + at)), from + at);
    }
    return;
  }
#pragma unroll 1
  for (int at = chunk; at < bytes; at += 4 * kChunkBytes) {
#pragma unroll 1
    for (int i = at; i < min(bytes, at + kChunkBytes); i += 2) {
      *reinterpret_cast<uint16_t*>(to + i) = *reinterpret_cast<const uint16_t*>(from + i);
    }
  }
}

/// The warps of a block share the reduced dimension: each has a run of the rows' blocks, and copies kStage blocks of 16
/// rows at a time. The codes are the tensor cores' rows and the tokens their columns. A sum over 32 elements is
/// multiplied by the part's scale, row by row. The warps' sums are added in order. A block takes item after item, and a
/// warp asks for weights kStages stages before it needs them, those of the next item too. Loops are hardly unrolled: in
/// small products the code is read from memory as the weights are.
template <class Type, bool kSwiglu>
__global__ void __launch_bounds__(kThreads, kBlocksTogether)
    kernel(const __grid_constant__ FewRows p, const uint8_t* weights_end) {
  constexpr int kParts = Type::kElements / blocks_of::kPart;
  static_assert(kParts == 1 || Type::kStage == 1);
  extern __shared__ __align__(16) uint8_t shared[];
  uint8_t* const ring = shared;
  auto* const sums = reinterpret_cast<float*>(shared + kRingBytes<Type>);  // [warp][token][row]
  auto& active = *reinterpret_cast<Active*>(shared + kRingBytes<Type> + kSumBytes);
  const int slabs = (p.n + kOutputs<kSwiglu> - 1) / kOutputs<kSwiglu>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int group = lane / 4, chunk = lane % 4;
  const int blocks = p.k / Type::kElements;
  const int begin = warp * blocks / kWarps, own_blocks = (warp + 1) * blocks / kWarps - begin;  // of each row
  const int rounds = ((blocks + kWarps - 1) / kWarps + Type::kStage - 1) / Type::kStage;
  const int64_t row_bytes = p.w_step / Type::kElements * Type::kBytes;
  const int64_t expert_bytes = p.w_expert / Type::kElements * Type::kBytes;

  const auto item_at = [&](int slab) {
    const int place = slab / slabs;
    Item item{slab, (slab - place * slabs) * kOutputs<kSwiglu>, 0, 0, static_cast<const uint8_t*>(p.w)};
    item.weights += int64_t{begin} * Type::kBytes;
    if (p.offsets == nullptr) {
      item.end = place == 0 ? p.rows : 0;
    } else if (place < active.count) {
      item.first = active.begin[place], item.end = active.end[place];
      item.weights += active.expert[place] * expert_bytes;
    }
    return item;
  };
  const auto next_of = [&](Item item) {
    item.first += kTokens;
    return item.first < item.end ? item : item_at(item.slab + static_cast<int>(gridDim.x));
  };
  // The first block of this warp in the tile's row `group` (half 0) or group + 8 (half 1); null: there is no such row.
  const auto row_of = [&](const Item& item, int half) -> const uint8_t* {
    const int output = item.output + group + (kSwiglu ? 0 : 8 * half);
    return output < p.n ? item.weights + (output + (kSwiglu ? half * p.n : 0)) * row_bytes : nullptr;
  };
  uint8_t* const own = ring + warp * kStages * kStageBytes<Type>;
  const auto stage_row = [&](int place, int half) {
    return own + place * kStageBytes<Type> + (group + 8 * half) * kPitch<Type>;
  };

  Item ahead{};
  int ahead_round = 0;
  const auto request = [&](int place) {  // the next stage, and moves on
    const int count = min(Type::kStage, own_blocks - ahead_round * Type::kStage);
    if (ahead.first < ahead.end && count > 0) {
#pragma unroll 1
      for (int half = 0; half < 2; ++half) {
        const uint8_t* const row = row_of(ahead, half);
        if (row == nullptr) continue;
        const uint8_t* const from = row + ahead_round * Type::kStage * Type::kBytes;
        const int within = static_cast<int>(reinterpret_cast<uintptr_t>(from) % kChunkBytes);
        copy_chunks<Type>(stage_row(place, half), from - within, within + count * Type::kBytes, weights_end);
      }
    }
    commit_copies();
    if (++ahead_round == rounds) {
      ahead_round = 0;
      if (ahead.first < ahead.end) ahead = next_of(ahead);
    }
  };

  let_next_start();
  p.offsets == nullptr ? few_rows::wait_for_weights(p) : few_rows::wait_for_weights(p, active);
  Item item = ahead = item_at(static_cast<int>(blockIdx.x));
#pragma unroll 1
  for (int place = 0; place < kStages; ++place) request(place);
  few_rows::wait_for_rows(p);

  int place = 0;
  while (item.first < item.end) {
    const int token = item.first + group;
    const __nv_bfloat16* const x =
        token < item.end ? p.x + static_cast<int64_t>(p.x_rows != nullptr ? p.x_rows[token] : token) * p.x_step +
                               begin * Type::kElements + 4 * chunk
                         : nullptr;
    float factor = 1;  // of the result that this thread stores, long before it is needed
    if constexpr (kSwiglu) {
      const int row = item.first + static_cast<int>(threadIdx.x) / kOutputs<kSwiglu>;
      if (p.act.scale != nullptr && row < item.end) factor = p.act.scale[p.act.scale_index[row]];
    }
    float sum[4] = {};
    for (int round = 0; round < rounds; ++round) {
      const int parts = min(Type::kStage, own_blocks - round * Type::kStage) * kParts;  // may be negative
      const __nv_bfloat16* from = x + round * Type::kStage * Type::kElements;
      uint2 tokens[2] = {}, next[2] = {};
      const auto load_next = [&](bool inside) {
        if (!inside || x == nullptr) return;
        next[0] = *reinterpret_cast<const uint2*>(from);
        next[1] = *reinterpret_cast<const uint2*>(from + blocks_of::kPart / 2);
        from += blocks_of::kPart;
      };
      load_next(parts > 0);
      const uint8_t* rows[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const auto within =
            (reinterpret_cast<uintptr_t>(row_of(item, half)) + round * Type::kStage * Type::kBytes) % kChunkBytes;
        rows[half] = stage_row(place, half) + within;
      }
      wait_for_copies<kStages - 1>();
      __syncwarp();
#pragma unroll 2
      for (int part = 0; part < parts; ++part) {
        tokens[0] = next[0], tokens[1] = next[1];
        load_next(part + 1 < parts);
        const int block = kParts == 1 ? part * Type::kBytes : 0, inner = kParts == 1 ? 0 : part;
        blocks_of::Codes codes[2];
        float step[2][Type::kSteps], minimum[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          Type::codes(rows[half] + block, inner, chunk, codes[half]);
          Type::scale(rows[half] + block, inner, step[half], minimum[half]);
        }
        float product[4] = {}, ones[4] = {};
#pragma unroll
        for (int k = 0; k < 2; ++k) {  // halves of the part
          const unsigned tile[4] = {codes[0][2 * k], codes[1][2 * k], codes[0][2 * k + 1], codes[1][2 * k + 1]};
          multiply_add(product, tile, tokens[k].x, tokens[k].y);
          if constexpr (Type::kMinimum) multiply_add(ones, {kOnes, kOnes, kOnes, kOnes}, tokens[k].x, tokens[k].y);
          if (Type::kSteps == 1 && k == 0) continue;
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            sum[i] = fmaf(step[i / 2][Type::kSteps == 1 ? 0 : k], product[i], sum[i]);
            product[i] = 0;
          }
        }
        if constexpr (Type::kMinimum) {
#pragma unroll
          for (int i = 0; i < 4; ++i) sum[i] = fmaf(minimum[i / 2], ones[i], sum[i]);
        }
      }
      __syncwarp();
      request(place);
      place = (place + 1) % kStages;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sums[(warp * kTokens + chunk * 2 + i % 2) * kTokenStep + group + i / 2 * 8] = sum[i];
    }
    __syncthreads();
    constexpr int kResults = kTokens * kOutputs<kSwiglu>;
    static_assert(kResults <= kThreads);
    const int mine = static_cast<int>(threadIdx.x), row = item.first + mine / kOutputs<kSwiglu>;
    const int output = item.output + mine % kOutputs<kSwiglu>;
    if (mine < kResults && row < item.end && output < p.n) {
      float total[kSwiglu ? 2 : 1] = {};
#pragma unroll
      for (int other = 0; other < kWarps; ++other) {
        const float* const from = sums + (other * kTokens + mine / kOutputs<kSwiglu>)*kTokenStep;
        total[0] += from[mine % kOutputs<kSwiglu>];
        if constexpr (kSwiglu) total[1] += from[mine % kOutputs<kSwiglu> + kOutputs<kSwiglu>];
      }
      store_result<kSwiglu>(p, row, output, total, factor);
    }
    __syncthreads();
    item = next_of(item);
  }
  few_rows::end_of_experts(p);
}

/// `end` is behind the last block of the weights.
template <class Type, bool kSwiglu>
void start(const Context& context, const FewRows& p, const uint8_t* end) {
  const int64_t slabs = ceil_div(p.n, kOutputs<kSwiglu>);
  const int64_t groups = p.offsets == nullptr ? 1 : std::min<int64_t>(p.experts, p.rows);
  const dim3 grid = cuda::blocks(std::min(groups * slabs, int64_t{kBlocksTogether} * processors(context)));
  const size_t bytes = kRingBytes<Type> + kSumBytes + (p.offsets == nullptr ? 0 : sizeof(Active));
  check(cudaFuncSetAttribute(kernel<Type, kSwiglu>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(kRingBytes<Type> + kSumBytes + sizeof(Active))),
        "asking for shared memory");
  // Experts cannot read their weights before the choice of experts anyway.
  p.offsets == nullptr || p.ready != nullptr
      ? launch_early(context, bytes <= kSharedOfTwo, kernel<Type, kSwiglu>, grid, dim3(kThreads), bytes, p, end)
      : launch(context, kernel<Type, kSwiglu>, grid, dim3(kThreads), bytes, p, end);
}

/// Both instances of a type.
template <class Type>
void start_type(const Context& context, const FewRows& p, const uint8_t* end, bool with_swiglu) {
  with_swiglu ? start<Type, true>(context, p, end) : start<Type, false>(context, p, end);
}

extern template void start_type<blocks_of::Q8_0>(const Context&, const FewRows&, const uint8_t*, bool);
extern template void start_type<blocks_of::Q4_0>(const Context&, const FewRows&, const uint8_t*, bool);
extern template void start_type<blocks_of::Q4_1>(const Context&, const FewRows&, const uint8_t*, bool);
extern template void start_type<blocks_of::Q5_0>(const Context&, const FewRows&, const uint8_t*, bool);
extern template void start_type<blocks_of::Q5_1>(const Context&, const FewRows&, const uint8_t*, bool);
extern template void start_type<blocks_of::Q4K>(const Context&, const FewRows&, const uint8_t*, bool);
extern template void start_type<blocks_of::Q5K>(const Context&, const FewRows&, const uint8_t*, bool);
extern template void start_type<blocks_of::Q6K>(const Context&, const FewRows&, const uint8_t*, bool);

}  // namespace moe::cuda::block_rows
