#include "backend/cpu/attention_tasks.h"
#include "backend/cpu/elements.h"
#include "ops/attention.h"

namespace moe::cpu {
namespace {

Storage storage_of_cache(const View& cache) {
  return cache.dtype == DType::f16 ? Storage::f16 : storage_of(cache.dtype);
}

/// The kernel's rows of one head in the first page of a cache [N, P, C].
HeadRows cache_rows(const View& cache, int64_t column) {
  const Storage type = storage_of_cache(cache);
  return {address(cache.data, type, column), type, cache.stride[1]};
}

/// The pages [M] of one sequence.
const int32_t* pages_of(const View& pages, int64_t sequence) {
  return pages.as<int32_t>() + sequence * pages.stride[0];
}

void append(const Context& context, const View& from, int64_t token, const View& cache, const int32_t* pages,
            int64_t position) {
  const int64_t tokens = cache.size(1);
  const Out row{moe::cpu::address(cache.at(pages[position / tokens]), position % tokens), storage_of_cache(cache)};
  convert(context, in_row(from, token), row, from.size(1));
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
      const int32_t* const pages = pages_of(op.pages, sequence[t]);
      append(context, op.k, t, op.k_cache, pages, positions[t]);
      append(context, op.v, t, op.v_cache, pages, positions[t]);
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

  const auto attend = [&](int64_t begin, int64_t end, int64_t kv_head, int kv_heads, float* scratch) {
    const int64_t column = kv_head * head_size;
    for (int64_t t = begin, next = begin; t < end; t = next) {
      next = t + 1;
      if (sequence[t] < 0) {
        clear_columns(op.out, t, kv_head * width, kv_heads * width);
        continue;
      }
      // Tokens of one sequence at consecutive positions share its packed keys and values.
      while (next < end && sequence[next] == sequence[t] && positions[next] == positions[next - 1] + 1) ++next;
      context.kernels.matrix.attention({.q = head_rows(op.q, t, kv_head * width),
                                        .k = cache_rows(op.k_cache, column),
                                        .v = cache_rows(op.v_cache, column),
                                        .out = head_rows(op.out, t, kv_head * width),
                                        .lse = nullptr,
                                        .lse_step = 0,
                                        .first = positions[t],
                                        .count = next - t,
                                        .group = group,
                                        .head_size = head_size,
                                        .scale = op.scale,
                                        .pages = {.table = pages_of(op.pages, sequence[t]),
                                                  .tokens = op.k_cache.size(1),
                                                  .k_step = op.k_cache.stride[0],
                                                  .v_step = op.v_cache.stride[0]},
                                        .kv_heads = kv_heads},
                                       scratch);
    }
  };
  const int64_t per_task = tokens_per_task(context, tokens, op.kv_heads);
  for_ranges(context, tokens, per_task, op.kv_heads, heads_per_task(context, tokens, per_task, op.kv_heads), attend);
}

}  // namespace moe::cpu
