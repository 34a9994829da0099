#pragma once
/// What kernels for few rows of x share: their problem, the experts that have rows, and the end of a result.

#include <optional>

#include "backend/cuda/early.cuh"
#include "backend/cuda/row_activation.h"
#include "backend/cuda/swiglu.cuh"
#include "backend/cuda/weight_lines.cuh"
#include "ops/expert_rows.h"

namespace moe::cuda::few_rows {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kTokens = 8;      ///< rows of x in one tile of the tensor cores
constexpr int kTokenStep = 20;  ///< floats between two tokens' sums in shared memory; no two lanes of a store collide
constexpr int kMostExperts = 512;

/// c = x W^T, of all rows or of those of each expert.
struct FewRows {
  const __nv_bfloat16* x;
  int64_t x_step;
  const int* x_rows;  ///< the row of x of each row; null: itself
  const void* w;
  int64_t w_step, w_expert;  ///< elements from one row and one expert to the next
  const int* offsets;        ///< null: one matrix for all rows
  int experts, rows;
  void* c;
  int64_t c_step;
  bool c_bf16, accumulate;
  int n, k;  ///< outputs (of one half with SwiGLU) and the reduced dimension
  RowActivation act;
  bool early;    ///< nothing in flight writes the weights, so they may be read before the earlier kernels have ended
  int* arrived;  ///< where blocks count that they have ended; null: nowhere
  const int* ready;  ///< 1 when the choice of experts can be read; null: when all earlier kernels have ended
};

/// The experts that have rows, in order. A block finds them once.
struct Active {
  int count;
  int expert[kMostExperts], begin[kMostExperts], end[kMostExperts];
};

/// One warp.
__device__ inline void find_active(const FewRows& p, Active& active) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  int count = 0;
  for (int base = 0; base < p.experts; base += kWarp) {
    const int e = base + lane;
    const int first = e < p.experts ? p.offsets[e] : 0, last = e < p.experts ? p.offsets[e + 1] : 0;
    const unsigned with_rows = __ballot_sync(0xffffffffu, last > first);
    const int at = count + __popc(with_rows & ((1u << lane) - 1));
    if (last > first) active.expert[at] = e, active.begin[at] = first, active.end[at] = last;
    count += __popc(with_rows);
  }
  if (lane == 0) active.count = count;
}

/// Waits until weights can be read; with experts it finds those that have rows. The whole block together.
__device__ inline void wait_for_weights(const FewRows& p) {
  if (!p.early) wait_for_previous();
}
__device__ inline void wait_for_weights(const FewRows& p, Active& active) {
  if (p.ready != nullptr) {
    await_arrivals(p.ready, 1);
  } else if (!p.early) {
    wait_for_previous();
  }
  if (threadIdx.x < kWarp) find_active(p, active);
  __syncthreads();
}
/// Waits until x can be read.
__device__ inline void wait_for_rows(const FewRows& p) {
  if (p.early) wait_for_previous();
}
/// Ends a block of a kernel with experts.
__device__ inline void end_of_experts(const FewRows& p) {
  if (p.ready != nullptr && !p.early) wait_for_previous();
}
/// Tells the handover how many blocks of this kernel arrive.
inline void note_arrivals(const Context& context, const FewRows& p, dim3 grid) {
  if (p.arrived != nullptr) context.handover->arrivals = static_cast<int>(grid.x * grid.y);
}

/// Stores an element of c; with SwiGLU `total` has the gate and the up projection, and the activation is stored too.
template <bool kSwiglu>
__device__ void store_result(const FewRows& p, int row, int output, const float (&total)[kSwiglu ? 2 : 1],
                             float factor) {
  const int64_t to = row * p.c_step + output;
  if constexpr (kSwiglu) {
    auto* const c = static_cast<__nv_bfloat16*>(p.c) + to;
    const __nv_bfloat16 gate = __float2bfloat16_rn(total[0]), up = __float2bfloat16_rn(total[1]);
    c[0] = gate;
    c[p.n] = up;
    p.act.y[row * p.act.y_step + output] =
        __float2bfloat16_rn(swiglu(__bfloat162float(gate), __bfloat162float(up), factor));
  } else if (p.c_bf16) {
    auto* const c = static_cast<__nv_bfloat16*>(p.c) + to;
    *c = __float2bfloat16_rn(p.accumulate ? __bfloat162float(*c) + total[0] : total[0]);
  } else {
    auto* const c = static_cast<float*>(p.c) + to;
    *c = p.accumulate ? *c + total[0] : total[0];
  }
}

/// Whether all rows are whole 16-byte chunks of bf16.
inline bool in_chunks(const View& m) {
  const auto outer = static_cast<size_t>(m.rank() - 2);
  if (m.dtype != DType::bf16 || reinterpret_cast<uintptr_t>(m.data) % 16 != 0) return false;
  if (m.size(m.rank() - 1) % kChunk != 0 || m.stride[outer] % kChunk != 0) return false;
  return m.rank() < 3 || m.stride[0] % kChunk == 0;
}

/// Whether all rows are whole lines of weight_lines.cuh.
inline bool in_lines(const View& m) {
  if (!is_line_weight(m.dtype)) return in_chunks(m);
  // Arenas align blocks; rows of such a type are whole lines.
  return reinterpret_cast<uintptr_t>(m.data) % 8 == 0;
}

inline FewRows problem(const Context& context, const View& a, const View& b, const View& c) {
  const auto outer = static_cast<size_t>(b.rank() - 2);
  return {.x = static_cast<const __nv_bfloat16*>(a.data),
          .x_step = a.stride[0],
          .x_rows = nullptr,
          .w = b.data,
          .w_step = b.stride[outer],
          .w_expert = 0,
          .offsets = nullptr,
          .experts = 1,
          .rows = static_cast<int>(c.size(0)),
          .c = c.data,
          .c_step = c.stride[0],
          .c_bf16 = is_bf16(c),
          .accumulate = false,
          .n = static_cast<int>(c.size(1)),
          .k = static_cast<int>(a.size(1)),
          .act = {},
          .early = context.rests(b),
          .arrived = nullptr,
          .ready = nullptr};
}
inline FewRows problem(const Context& context, const Gemm& op) {
  FewRows p = problem(context, op.a, op.b, op.c);
  if (context.handover != nullptr && context.handover->product == Handover::For::logits) {
    p.arrived = context.handover->arrived;
  }
  p.accumulate = op.accumulate;
  return p;
}
inline FewRows problem(const Context& context, const GroupedGemm& op) {
  FewRows p = problem(context, op.a, op.b, op.c);
  if (op.a_rows && op.a.size(0) == 1) {
    p.x_step = 0;  // there is one row, so nobody has to wait for its number
  } else if (op.a_rows) {
    p.x_rows = op.a_rows.as<const int32_t>();
  }
  p.w_expert = op.b.stride[0];
  p.accumulate = op.accumulate;
  p.offsets = op.offsets.as<const int32_t>();
  p.experts = static_cast<int>(op.b.size(0));
  // Which weights are read is known only when the choice of experts is.
  const Handover* const handover = context.handover;
  const bool after_choice = handover != nullptr && handover->product != Handover::For::nothing && p.early;
  p.ready = after_choice ? handover->ready : nullptr;
  p.early = after_choice && handover->product == Handover::For::rows;
  return p;
}

/// Its activation too; nothing if its operands are not bf16.
template <class Op>
std::optional<FewRows> problem_with_swiglu(const Context& context, const Op& product, const SwiGlu& activation) {
  if (product.c.dtype != DType::bf16 || activation.y.dtype != DType::bf16) return std::nullopt;
  FewRows p = problem(context, product);
  p.n /= 2;
  if (p.accumulate || p.n == 0) return std::nullopt;
  p.act = {.scale = activation.scale ? activation.scale.as<const float>() : nullptr,
           .scale_index = activation.scale ? activation.scale_index.as<const int32_t>() : nullptr,
           .y = static_cast<__nv_bfloat16*>(activation.y.data),
           .y_step = activation.y.stride[0]};
  return p;
}

}  // namespace moe::cuda::few_rows
