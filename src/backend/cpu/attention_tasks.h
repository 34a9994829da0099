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

/// Calls task(begin, end, kv_head, scratch) for ranges of tokens and each key/value head. The last tokens, which see
/// the most keys, come first.
template <class Task>
void for_ranges(Context& context, int64_t tokens, int64_t per_task, int kv_heads, Task task) {
  const int64_t ranges = (tokens + per_task - 1) / per_task;
  context.pool.parallel_for(ranges * kv_heads, [&](int64_t index, int worker) {
    const int64_t begin = (ranges - 1 - index / kv_heads) * per_task;
    task(begin, std::min(tokens, begin + per_task), index % kv_heads, static_cast<float*>(context.scratch.of(worker)));
  });
}

inline void clear_columns(const View& view, int64_t row, int64_t column, int64_t count) {
  const HeadRows rows = head_rows(view, row, column);
  std::fill_n(static_cast<char*>(rows.data), count * size_of(rows.type), char{0});
}

}  // namespace moe::cpu
