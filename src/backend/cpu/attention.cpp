#include <algorithm>

#include "backend/cpu/products.h"
#include "ops/attention.h"

namespace moe::cpu {
namespace {

/// The kernel's rows of one key/value head (or of the query heads that read it), from row `row` on.
HeadRows head_rows(const View& view, int64_t row, int64_t column) {
  const bool is_bf16 = view.dtype == DType::bf16;
  return {address(view.data, is_bf16, row * view.stride[0] + column), is_bf16, view.stride[0]};
}

/// Tokens in a task: enough tasks for the workers to share, few enough to pack keys and values seldom.
int64_t tokens_per_task(const Context& context, int64_t tokens, int kv_heads) {
  constexpr int64_t kTasksPerWorker = 8, kMostTokens = 512;
  return std::clamp<int64_t>(tokens * kv_heads / (kTasksPerWorker * context.pool.size()), 1, kMostTokens);
}

/// Calls task(begin, end, kv_head, worker) for ranges of tokens and each key/value head; the last tokens, which see the
/// most keys, first.
template <class Task>
void for_ranges(Context& context, int64_t tokens, int64_t per_task, int kv_heads, Task task) {
  const int64_t ranges = (tokens + per_task - 1) / per_task;
  context.pool.parallel_for(ranges * kv_heads, [&](int64_t index, int worker) {
    const int64_t begin = (ranges - 1 - index / kv_heads) * per_task;
    task(begin, std::min(tokens, begin + per_task), static_cast<int>(index % kv_heads), worker);
  });
}

void clear_columns(const View& view, int64_t row, int64_t column, int64_t count) {
  const HeadRows rows = head_rows(view, row, column);
  std::fill_n(static_cast<char*>(rows.data), count * static_cast<int64_t>(size_of(view.dtype)), char{0});
}

float* scratch_of(Context& context, int worker) { return static_cast<float*>(context.scratch.of(worker)); }

}  // namespace

template <>
void execute(Context& context, const Attention& op) {
  const int32_t* start = op.segment_start.as<int32_t>();
  const int64_t tokens = op.q.size(0);
  const int group = op.heads / op.kv_heads, head_size = static_cast<int>(op.q.size(1) / op.heads);
  const int64_t width = int64_t{group} * head_size;
  const auto attend = [&](int64_t begin, int64_t end, int kv_head, int worker) {
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
                                        .k = head_rows(op.k, start[t], int64_t{kv_head} * head_size),
                                        .v = head_rows(op.v, start[t], int64_t{kv_head} * head_size),
                                        .out = head_rows(op.out, t, kv_head * width),
                                        .lse = lse,
                                        .lse_step = op.lse.stride[0],
                                        .first = t - start[t],
                                        .count = next - t,
                                        .group = group,
                                        .head_size = head_size,
                                        .scale = op.scale},
                                       scratch_of(context, worker));
    }
  };
  for_ranges(context, tokens, tokens_per_task(context, tokens, op.kv_heads), op.kv_heads, attend);
}

template <>
void execute(Context& context, const AttentionBackward& op) {
  const int32_t* start = op.segment_start.as<int32_t>();
  const int64_t tokens = op.q.size(0);
  const int group = op.heads / op.kv_heads, head_size = static_cast<int>(op.q.size(1) / op.heads);
  const int64_t width = int64_t{group} * head_size;
  const auto differentiate = [&](int64_t begin, int64_t end, int kv_head, int worker) {
    const int64_t column = int64_t{kv_head} * head_size;
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
                                                scratch_of(context, worker));
    }
  };
  constexpr int64_t kTokensPerTask = 128;  // small, because a long document makes a range's neighbours empty
  for_ranges(context, tokens, kTokensPerTask, op.kv_heads, differentiate);
}

}  // namespace moe::cpu
