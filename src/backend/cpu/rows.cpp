#include "ops/rows.h"

#include <cassert>
#include <cmath>

#include "backend/cpu/elements.h"
#include "backend/cpu/swiglu.h"

namespace moe::cpu {
namespace {

int64_t row_bytes(const View& view) { return bytes_of(view.dtype, view.size(1)); }

/// The rows that SwiGlu and its backward compute.
template <class Op>
int64_t active_rows(const Op& op) {
  const int64_t rows = op.gate_up.size(0);
  if (!op.row_count) return rows;
  const int64_t count = *op.row_count.template as<int32_t>();
  assert(count >= 0 && count <= rows);
  return std::clamp<int64_t>(count, 0, rows);
}

/// The address of row r's scale, or null.
template <class Op>
const float* scale_of(const Op& op, int64_t r) {
  return op.scale ? op.scale.template as<float>() + op.scale_index.template as<int32_t>()[r] : nullptr;
}

}  // namespace

template <>
void execute(Context& context, const RmsNorm& op) {
  auto* inv_rms = op.inv_rms.as<float>();
  const View gain = readable(context, op.gain);
  for_rows(context.pool, op.x.size(0), row_bytes(op.x) + row_bytes(op.y), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      inv_rms[r] = context.kernels.rows.rms_norm({.x = in_row(op.x, r),
                                                  .residual = in_row(op.residual, r),
                                                  .sum = out_row(op.sum, r),
                                                  .gain = in_row(gain),
                                                  .y = out_row(op.y, r),
                                                  .width = op.x.size(1),
                                                  .eps = op.eps});
    }
  });
}

template <>
void execute(Context& context, const RmsNormBackward& op) {
  const int64_t rows = op.x.size(0);
  const int64_t width = op.x.size(1);
  if (rows == 0 || width == 0) return;
  // dgain: a partial sum for each block of rows, then the sum of these in order. The blocks depend only on the shape.
  constexpr int64_t kMaxBlocks = 64;
  constexpr int64_t kRowsPerBlock = 32;
  const auto room = static_cast<int64_t>(Scratch::kBytes / sizeof(float)) / width;
  MOE_CHECK(room > 0);
  const int64_t blocks = std::min({kMaxBlocks, room, (rows + kRowsPerBlock - 1) / kRowsPerBlock});
  auto* partials = static_cast<float*>(context.scratch.of(0));
  const auto* inv_rms = op.inv_rms.as<float>();
  context.pool.parallel_for(blocks, [&](int64_t block, int) {
    float* dgain = partials + block * width;
    std::fill(dgain, dgain + width, 0.0f);
    for (int64_t r = rows * block / blocks; r < rows * (block + 1) / blocks; ++r) {
      context.kernels.rows.rms_norm_backward({.dy = in_row(op.dy, r),
                                              .x = in_row(op.x, r),
                                              .gain = in_row(op.gain),
                                              .inv_rms = inv_rms[r],
                                              .dx = out_row(op.dx, r),
                                              .dgain = dgain,
                                              .width = width});
    }
  });
  auto* dgain = op.dgain.as<float>();
  for_elements(context.pool, width, blocks * 4, [&](int64_t begin, int64_t end) {
    for (int64_t block = 0; block < blocks; ++block) {
      context.kernels.rows.add(in_row(partials + block * width + begin), out_row(dgain + begin), end - begin);
    }
  });
}

void swiglu_rows(const Context& context, const SwiGlu& op, int64_t begin, int64_t end) {
  const int64_t width = op.y.size(1);
  for (int64_t r = begin; r < end; ++r) {
    const In gate = in_row(op.gate_up, r);
    const float* scale = scale_of(op, r);
    context.kernels.rows.swiglu(gate, at(gate, width), scale ? *scale : 1.0f, out_row(op.y, r), width);
  }
}

void swiglu_rows(const Context& context, const SwiGluBackward& op, int64_t begin, int64_t end) {
  const int64_t width = op.dy.size(1);
  auto* d_scale = op.d_scale.as<float>();
  for (int64_t r = begin; r < end; ++r) {
    const In gate = in_row(op.gate_up, r);
    const Out d_gate = out_row(op.d_gate_up, r);
    const float* scale = scale_of(op, r);
    const float row_d_scale = context.kernels.rows.swiglu_backward({.gate = gate,
                                                                    .up = at(gate, width),
                                                                    .dy = in_row(op.dy, r),
                                                                    .scale = scale ? *scale : 1.0f,
                                                                    .d_gate = d_gate,
                                                                    .d_up = at(d_gate, width),
                                                                    .y = out_row(op.y, r),
                                                                    .width = width});
    if (d_scale) d_scale[op.scale_index.as<int32_t>()[r]] = row_d_scale;
  }
}

template <>
void execute(Context& context, const SwiGlu& op) {
  for_rows(context.pool, active_rows(op), row_bytes(op.gate_up) + row_bytes(op.y),
           [&](int64_t begin, int64_t end) { swiglu_rows(context, op, begin, end); });
}

template <>
void execute(Context& context, const SwiGluBackward& op) {
  const int64_t bytes = row_bytes(op.gate_up) + row_bytes(op.dy) + row_bytes(op.d_gate_up);
  for_rows(context.pool, active_rows(op), bytes,
           [&](int64_t begin, int64_t end) { swiglu_rows(context, op, begin, end); });
}

template <>
void execute(Context& context, const RopeTable& op) {
  const int64_t head = op.table.size(1);
  const int64_t half = head / 2;
  MOE_CHECK(static_cast<size_t>(half) * sizeof(double) <= Scratch::kBytes);
  auto* frequencies = static_cast<double*>(context.scratch.of(0));
  for (int64_t j = 0; j < half; ++j) {
    frequencies[j] = std::pow(op.theta, -2.0 * static_cast<double>(j) / static_cast<double>(head));
  }
  const auto* positions = op.positions.as<int32_t>();
  constexpr int64_t kCostOfAnAngle = 512;
  for_rows(context.pool, op.table.size(0), half * kCostOfAnAngle, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      auto* row = row_as<float>(op.table, t);
      for (int64_t j = 0; j < half; ++j) {
        const double angle = positions[t] * frequencies[j];
        row[j] = static_cast<float>(std::cos(angle));
        row[half + j] = static_cast<float>(std::sin(angle));
      }
    }
  });
}

template <>
void execute(Context& context, const Rope& op) {
  const int64_t head = op.table.size(1);
  const int64_t heads = op.x.size(1) / head;
  for_rows(context.pool, op.x.size(0), 2 * row_bytes(op.x), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      context.kernels.rows.rope(out_row(op.x, t), row_as<float>(op.table, t), heads, head / 2, op.inverse);
    }
  });
}

template <>
void execute(Context& context, const Add& op) {
  for_rows(context.pool, op.x.size(0), row_bytes(op.x) + row_bytes(op.y), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) context.kernels.rows.add(in_row(op.x, r), out_row(op.y, r), op.x.size(1));
  });
}

}  // namespace moe::cpu
