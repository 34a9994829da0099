#include "ops/embedding_loss.h"

#include <cassert>

#include "backend/cpu/elements.h"

namespace moe::cpu {
namespace {

/// y = a row of the table. What no kernel reads is widened in pieces of whole blocks.
void embed(const Context& context, const View& table, int64_t row, Out y) {
  const int64_t width = table.size(1);
  if (is_native(table.dtype)) return convert(context, in_row(table, row), y, width);
  constexpr int64_t kPiece = 1024;
  float piece[kPiece];
  const auto* from = static_cast<const char*>(address(table, row));
  for (int64_t i = 0; i < width; i += kPiece) {
    const int64_t count = std::min(kPiece, width - i);
    storage(table.dtype).to_floats(from + bytes_of(table.dtype, i), piece, count);
    convert(context, in_row(piece), at(y, i), count);
  }
}

}  // namespace

template <>
void execute(Context& context, const Embed& op) {
  assert(values_in(op.tokens, 0, op.table.size(0)));
  const auto* tokens = op.tokens.as<int32_t>();
  const int64_t width = op.y.size(1);
  for_rows(context.pool, op.y.size(0), 8 * width, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) embed(context, op.table, tokens[t], out_row(op.y, t));
  });
}

// Each task owns some columns of the table and visits all tokens, so that repeated tokens add up in order.
template <>
void execute(Context& context, const EmbedBackward& op) {
  assert(values_in(op.tokens, 0, op.d_table.size(0)));
  const auto* tokens = op.tokens.as<int32_t>();
  const int64_t rows = op.dy.size(0);
  const int64_t width = op.dy.size(1);
  constexpr int64_t kMinColumns = 64;
  const int64_t share = width / (2 * context.pool.size());
  const int64_t columns = std::max(kMinColumns, share / kMinColumns * kMinColumns);
  context.pool.parallel_for((width + columns - 1) / columns, [&](int64_t task, int) {
    const int64_t first = task * columns;
    const int64_t count = std::min(columns, width - first);
    for (int64_t t = 0; t < rows; ++t) {
      context.kernels.rows.add(at(in_row(op.dy, t), first), at(out_row(op.d_table, tokens[t]), first), count);
    }
  });
}

template <>
void execute(Context& context, const CrossEntropy& op) {
  const int64_t width = op.logits.size(1);
  assert(values_in(op.targets, INT32_MIN, width));
  const auto* targets = op.targets.as<int32_t>();
  const auto* gradient_scale = op.gradient_scale.as<float>();
  const float* const weights = op.weights ? op.weights.as<float>() : nullptr;
  auto* row_loss = op.row_loss.as<float>();
  for_rows(context.pool, op.logits.size(0), 8 * width, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const Out d_logits = out_row(op.d_logits, t);
      if (targets[t] >= 0) {
        const float weighted = weights && gradient_scale ? weights[t] * *gradient_scale : 0;
        row_loss[t] = context.kernels.rows.softmax.cross_entropy(
            {.logits = in_row(op.logits, t),
             .d_logits = d_logits,
             .width = width,
             .target = targets[t],
             .gradient_scale = weights && gradient_scale ? &weighted : gradient_scale});
        if (weights) row_loss[t] *= weights[t];
        continue;
      }
      row_loss[t] = 0;
      if (gradient_scale) std::memset(d_logits.data, 0, static_cast<size_t>(width) * size_of(op.d_logits.dtype));
    }
  });
}

}  // namespace moe::cpu
