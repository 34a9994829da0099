#include "ops/attention.h"

#include "backend/cpu/attention_tasks.h"

namespace moe::cpu {

static_assert(kMostHeadSize <= kLargestHead);

template <>
void execute(Context& context, const Attention& op) {
  const int32_t* start = op.segment_start.as<int32_t>();
  const int64_t tokens = op.q.size(0);
  const int group = op.heads / op.kv_heads, head_size = static_cast<int>(op.q.size(1) / op.heads);
  const int64_t width = int64_t{group} * head_size;
  const auto attend = [&](int64_t begin, int64_t end, int64_t kv_head, int, float* scratch) {
    for (int64_t t = begin, next = begin; t < end; t = next) {
      for (next = t + 1; next < end && start[next] == start[t];) ++next;
      float* const lse = op.lse.as<float>() + t * op.lse.stride[0] + kv_head * group;
      if (start[t] < 0) {
        for (int64_t i = t; i < next; ++i) {
          clear_columns(op.out, i, kv_head * width, width);
          std::fill_n(lse + (i - t) * op.lse.stride[0], group, 0.0f);
        }
        continue;
      }
      context.kernels.matrix.attention({.q = head_rows(op.q, t, kv_head * width),
                                        .k = head_rows(op.k, start[t], kv_head * head_size),
                                        .v = head_rows(op.v, start[t], kv_head * head_size),
                                        .out = head_rows(op.out, t, kv_head * width),
                                        .lse = lse,
                                        .lse_step = op.lse.stride[0],
                                        .first = t - start[t],
                                        .count = next - t,
                                        .group = group,
                                        .head_size = head_size,
                                        .scale = op.scale},
                                       scratch);
    }
  };
  for_ranges(context, tokens, tokens_per_task(context, tokens, op.kv_heads), op.kv_heads, 1, attend);
}

template <>
void execute(Context& context, const AttentionBackward& op) {
  const int32_t* start = op.segment_start.as<int32_t>();
  const int64_t tokens = op.q.size(0);
  const int group = op.heads / op.kv_heads, head_size = static_cast<int>(op.q.size(1) / op.heads);
  const int64_t width = int64_t{group} * head_size;
  const auto differentiate = [&](int64_t begin, int64_t end, int64_t kv_head, int, float* scratch) {
    const int64_t column = kv_head * head_size;
    for (int64_t t = begin; t < end; ++t) {
      if (start[t] < 0) {
        clear_columns(op.dq, t, kv_head * width, width);
        clear_columns(op.dk, t, column, head_size);
        clear_columns(op.dv, t, column, head_size);
        continue;
      }
      if (start[t] != t) continue;  // a document belongs to the range in which it begins
      int64_t next = t + 1;
      while (next < tokens && start[next] == t) ++next;
      context.kernels.matrix.attention_backward({.q = head_rows(op.q, t, kv_head * width),
                                                 .k = head_rows(op.k, t, column),
                                                 .v = head_rows(op.v, t, column),
                                                 .out = head_rows(op.out, t, kv_head * width),
                                                 .d_out = head_rows(op.d_out, t, kv_head * width),
                                                 .dq = head_rows(op.dq, t, kv_head * width),
                                                 .dk = head_rows(op.dk, t, column),
                                                 .dv = head_rows(op.dv, t, column),
                                                 .lse = op.lse.as<float>() + t * op.lse.stride[0] + kv_head * group,
                                                 .lse_step = op.lse.stride[0],
                                                 .length = next - t,
                                                 .group = group,
                                                 .head_size = head_size,
                                                 .scale = op.scale},
                                                scratch);
    }
  };
  constexpr int64_t kTokensPerTask = 128;  // small, because a long document makes the neighbouring ranges empty
  for_ranges(context, tokens, kTokensPerTask, op.kv_heads, 1, differentiate);
}

}  // namespace moe::cpu
