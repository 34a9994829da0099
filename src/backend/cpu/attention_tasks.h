#pragma once
/// Divides attention into tasks: ranges of tokens, and key/value heads.

#include <algorithm>

#include "backend/cpu/products.h"

namespace moe::cpu {

/// The kernel's rows of one head, or of adjacent heads, of a matrix from row `row` on.
inline HeadRows head_rows(const View& matrix, int64_t row, int64_t column) {
  const Storage type = storage_of(matrix.dtype);
  return {address(matrix.data, type, row * matrix.stride[0] + column), type, matrix.stride[0]};
}

/// Tokens per task: few enough that all workers get tasks, many enough that keys and values are rarely packed again.
inline int64_t tokens_per_task(const Context& context, int64_t tokens, int kv_heads) {
  constexpr int64_t kTasksPerWorker = 8, kMostTokens = 512;
  return std::clamp<int64_t>(tokens * kv_heads / (kTasksPerWorker * context.pool.size()), 1, kMostTokens);
}

/// Key/value heads per task that has so many tokens. Keys and values of adjacent heads are adjacent in the memory,
/// which is faster to read in long pieces; this matters if few tokens use them. All workers get tasks.
inline int heads_per_task(const Context& context, int64_t tokens, int64_t per_task, int kv_heads) {
  constexpr int64_t kTasksPerWorker = 2, kFewTokens = 4;
  if (per_task > kFewTokens) return 1;
  const int64_t ranges = (tokens + per_task - 1) / per_task;
  const int64_t heads = ranges * kv_heads / (kTasksPerWorker * context.pool.size());
  return static_cast<int>(std::clamp<int64_t>(heads, 1, std::min(kv_heads, kMostHeadsAtOnce)));
}

/// Calls task(begin, end, kv_head, kv_heads, scratch) for ranges of tokens and `heads` key/value heads at a time. The
/// last tokens, which see the most keys, come first.
template <class Task>
void for_ranges(Context& context, int64_t tokens, int64_t per_task, int kv_heads, int heads, Task task) {
  const int64_t ranges = (tokens + per_task - 1) / per_task, groups = (kv_heads + heads - 1) / heads;
  context.pool.parallel_for(ranges * groups, [&](int64_t index, int worker) {
    const int64_t begin = (ranges - 1 - index / groups) * per_task, head = index % groups * heads;
    task(begin, std::min(tokens, begin + per_task), head, static_cast<int>(std::min<int64_t>(heads, kv_heads - head)),
         static_cast<float*>(context.scratch.of(worker)));
  });
}

inline void clear_columns(const View& view, int64_t row, int64_t column, int64_t count) {
  const HeadRows rows = head_rows(view, row, column);
  std::fill_n(static_cast<char*>(rows.data), count * size_of(rows.type), char{0});
}

}  // namespace moe::cpu
