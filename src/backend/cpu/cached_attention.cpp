#include <algorithm>
#include <cstring>

#include "backend/cpu/products.h"
#include "ops/attention.h"

namespace moe::cpu {
namespace {

/// Row `row` of a cache [S, L, C] of sequence s, or of a matrix.
HeadRows cache_rows(const View& cache, int64_t sequence, int64_t column) {
  const bool is_bf16 = cache.dtype == DType::bf16;
  return {address(cache.data, is_bf16, sequence * cache.stride[0] + column), is_bf16, cache.stride[1]};
}

float read(const View& view, int64_t row, int64_t column) {
  const int64_t at = row * view.stride[0] + column;
  return view.dtype == DType::bf16 ? to_float(view.as<bf16>()[at]) : view.as<float>()[at];
}

void append(const View& from, int64_t token, const View& cache, int64_t sequence, int64_t position) {
  const int64_t width = from.size(1);
  const bool from_bf16 = from.dtype == DType::bf16, to_bf16s = cache.dtype == DType::bf16;
  void* const to = address(cache.data, to_bf16s, sequence * cache.stride[0] + position * cache.stride[1]);
  if (from_bf16 == to_bf16s) {
    std::memcpy(to, address(from.data, from_bf16, token * from.stride[0]), static_cast<size_t>(width) * size_of(from.dtype));
  } else if (to_bf16s) {
    for (int64_t i = 0; i < width; ++i) static_cast<bf16*>(to)[i] = to_bf16(read(from, token, i));
  } else {
    for (int64_t i = 0; i < width; ++i) static_cast<float*>(to)[i] = read(from, token, i);
  }
}

}  // namespace

template <>
void execute(Context& context, const KvAppend& op) {
  const int32_t* sequence = op.sequence.as<int32_t>();
  const int32_t* positions = op.positions.as<int32_t>();
  const int64_t tokens = op.k.size(0);
  constexpr int64_t kTokensPerTask = 64;
  context.pool.parallel_for((tokens + kTokensPerTask - 1) / kTokensPerTask, [&](int64_t index, int) {
    const int64_t end = std::min(tokens, (index + 1) * kTokensPerTask);
    for (int64_t t = index * kTokensPerTask; t < end; ++t) {
      if (sequence[t] < 0) continue;
      append(op.k, t, op.k_cache, sequence[t], positions[t]);
      append(op.v, t, op.v_cache, sequence[t], positions[t]);
    }
  });
}

template <>
void execute(Context& context, const CachedAttention& op) {
  const int32_t* sequence = op.sequence.as<int32_t>();
  const int32_t* positions = op.positions.as<int32_t>();
  const int64_t tokens = op.q.size(0);
  const int group = op.heads / op.kv_heads, head_size = static_cast<int>(op.q.size(1) / op.heads);
  const int64_t width = int64_t{group} * head_size;

  const auto attend = [&](int64_t begin, int64_t end, int kv_head, int worker) {
    const int64_t column = int64_t{kv_head} * head_size;
    const auto rows_of = [&](const View& view, int64_t t) -> HeadRows {
      const bool is_bf16 = view.dtype == DType::bf16;
      return {address(view.data, is_bf16, t * view.stride[0] + kv_head * width), is_bf16, view.stride[0]};
    };
    for (int64_t t = begin, next = begin; t < end; t = next) {
      next = t + 1;
      if (sequence[t] < 0) {
        std::memset(rows_of(op.out, t).data, 0, static_cast<size_t>(width) * size_of(op.out.dtype));
        continue;
      }
      // Tokens of one sequence at consecutive positions share its packed keys and values.
      while (next < end && sequence[next] == sequence[t] && positions[next] == positions[next - 1] + 1) ++next;
      context.kernels.matrix.attention({.q = rows_of(op.q, t),
                                        .k = cache_rows(op.k_cache, sequence[t], column),
                                        .v = cache_rows(op.v_cache, sequence[t], column),
                                        .out = rows_of(op.out, t),
                                        .lse = nullptr,
                                        .lse_step = 0,
                                        .first = positions[t],
                                        .count = next - t,
                                        .group = group,
                                        .head_size = head_size,
                                        .scale = op.scale},
                                       static_cast<float*>(context.scratch.of(worker)));
    }
  };

  constexpr int64_t kTasksPerWorker = 8, kMostTokens = 256;
  const int64_t per_task =
      std::clamp<int64_t>(tokens * op.kv_heads / (kTasksPerWorker * context.pool.size()), 1, kMostTokens);
  const int64_t ranges = (tokens + per_task - 1) / per_task;
  context.pool.parallel_for(ranges * op.kv_heads, [&](int64_t index, int worker) {
    const int64_t begin = index / op.kv_heads * per_task;
    attend(begin, std::min(tokens, begin + per_task), static_cast<int>(index % op.kv_heads), worker);
  });
}

}  // namespace moe::cpu
