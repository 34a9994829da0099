#pragma once
/// Kernels that work on rows: normalisation, SwiGLU, rotations, softmax, the optimiser. A row's result depends only on
/// that row. The order of every sum along a row depends only on its length.

#include "backend/cpu/kernels/storage.h"

namespace moe::cpu {

struct RmsNormRow {
  In x, residual;  ///< if residual is absent, sum is absent too and x is normalised
  Out sum;
  In gain;
  Out y;
  int64_t width;
  float eps;
};

struct RmsNormBackwardRow {
  In dy, x, gain;
  float inv_rms;
  Out dx;        ///< added to
  float* dgain;  ///< added to
  int64_t width;
};

struct SwiGluBackwardRow {
  In gate, up, dy;
  float scale;
  Out d_gate, d_up;
  Out y;  ///< may be absent
  int64_t width;
};

/// y = (y when `accumulate`) + residual (may be absent) + the rows with the indices index[0 .. count); negative indices
/// are skipped.
struct CombineRow {
  In rows;
  int64_t row_stride;
  const int32_t* index;
  int64_t count;
  In residual;
  Out y;
  bool accumulate;
  int64_t width;
};

struct CrossEntropyRow {
  In logits;
  Out d_logits;  ///< absent without gradient_scale; may be logits
  int64_t width;
  int64_t target;  ///< in [0, width)
  const float* gradient_scale;
};

/// logits[t * logits_stride + e] = x_t . weight_e for t < tokens, e < experts, in f32.
struct RouterLogits {
  In x;
  int64_t x_stride;
  int64_t tokens;
  In weight;
  int64_t weight_stride;
  int64_t experts;
  int64_t width;
  float* logits;
  int64_t logits_stride;
};

struct AdamWChunk {
  Out param;
  float* master;  ///< null: param is f32 and is updated directly
  const float* gradient;
  float* exp_avg;
  float* exp_avg_sq;
  int64_t count;
  float gradient_scale;
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float correction1, correction2;  ///< 1 / (1 - beta^step)
  float learning_rate;
  float keep;  ///< 1 - learning_rate * weight_decay
  float eps;
};

struct SoftmaxKernels {
  /// Returns the row's loss.
  float (*cross_entropy)(const CrossEntropyRow& row);
  void (*router_logits)(const RouterLogits& block);
  /// x = softmax(x).
  void (*softmax)(float* x, int64_t n);
  /// dx = y * (dx - y . dx), y = softmax's output.
  void (*softmax_backward)(const float* y, float* dx, int64_t n);
  float (*dot)(const float* a, const float* b, int64_t n);
};

struct OptimizerKernels {
  void (*adamw)(const AdamWChunk& chunk);
  /// y = y_factor y + x_factor x.
  void (*blend)(In x, float x_factor, Out y, float y_factor, int64_t n);
  /// y = factor x.
  void (*scale)(In x, float factor, Out y, int64_t n);
  /// The sum of squares, squares and sum in f64.
  double (*sum_squares)(const float* x, int64_t n);
};

struct RowKernels {
  /// y = x, rounded to y's type.
  void (*convert)(In x, Out y, int64_t n);
  /// y += x.
  void (*add)(In x, Out y, int64_t n);
  /// Returns inv_rms.
  float (*rms_norm)(const RmsNormRow& row);
  void (*rms_norm_backward)(const RmsNormBackwardRow& row);
  /// y = scale * silu(gate) * up.
  void (*swiglu)(In gate, In up, float scale, Out y, int64_t width);
  /// Returns d_scale.
  float (*swiglu_backward)(const SwiGluBackwardRow& row);
  /// Rotates `heads` heads of size 2 * half_size by [cos | sin], by [cos | -sin] when `inverse`.
  void (*rope)(Out x, const float* table, int64_t heads, int64_t half_size, bool inverse);
  void (*combine)(const CombineRow& row);
  SoftmaxKernels softmax;
  OptimizerKernels optimizer;
};

}  // namespace moe::cpu
