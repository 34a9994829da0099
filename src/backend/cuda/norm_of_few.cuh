#pragma once
/// The norm of one or two rows that every block makes for itself, because the start of a kernel costs more.

#include <optional>

#include "backend/cuda/weight_element.cuh"
#include "ops/rows.h"

namespace moe::cuda::norm_of_few {

// As norm.cu has them for rows of this width, whose sums these are, bit for bit.
constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kMostWidth = kThreads * kChunk, kLeastWidth = kMostWidth / 2;
constexpr int kMostRows = 2;

struct Norm {
  Matrix x, residual, sum, gain, y;
  float eps;
  float* inv_rms;
  int rows, width;
};

using Rows = __nv_bfloat16[kMostRows][kMostWidth];

/// Empty if the norm has another form than these rows.
inline std::optional<Norm> norm_of(const RmsNorm& op) {
  const int64_t rows = op.x.size(0), width = op.x.size(1);
  if (rows > kMostRows || width <= kLeastWidth || width > kMostWidth || width % kChunk != 0) return std::nullopt;
  if (op.sum && overlap(op.sum, op.x)) return std::nullopt;  // others may still read it
  if (op.gain.dtype != DType::bf16 && op.gain.dtype != DType::f32) return std::nullopt;
  const Norm norm{.x = matrix(op.x),
                  .residual = matrix(op.residual),
                  .sum = matrix(op.sum),
                  .gain = matrix(op.gain),
                  .y = matrix(op.y),
                  .eps = op.eps,
                  .inv_rms = op.inv_rms.as<float>(),
                  .rows = static_cast<int>(rows),
                  .width = static_cast<int>(width)};
  for (const Matrix* m : {&norm.x, &norm.residual, &norm.sum, &norm.y}) {
    if (!in_bf16_chunks(*m, width)) return std::nullopt;
  }
  return norm;
}

/// The whole block together, which synchronises afterwards. The first block stores the results too.
__device__ inline void make_norm(const Norm& norm, Rows& rows, float (&shared)[kWarps]) {
  const int64_t width = norm.width, c = static_cast<int64_t>(threadIdx.x) * kChunk;
  float factor[kChunk];
  load_chunk(norm.gain, 0, c, width, factor);
  for (int row = 0; row < norm.rows; ++row) {
    float v[kChunk] = {}, other[kChunk], squares = 0;
    if (c < width) {
      // Both are asked for before one is waited for.
      const Bf16Chunk x = Bf16Chunk::load(norm.x, row, c);
      Bf16Chunk residual{};
      if (norm.residual) residual = Bf16Chunk::load(norm.residual, row, c);
      x.get(v);
      if (norm.residual) {
        residual.get(other);
#pragma unroll
        for (int i = 0; i < kChunk; ++i) v[i] = rounded(norm.sum, v[i] + other[i]);
        if (blockIdx.x == 0) store_chunk(norm.sum, row, c, width, v);
      }
#pragma unroll
      for (int i = 0; i < kChunk; ++i) squares += v[i] * v[i];
    }
    squares = block_sum(squares, shared);
    const float scale = 1 / sqrtf(squares / static_cast<float>(width) + norm.eps);
    if (blockIdx.x == 0 && threadIdx.x == 0) norm.inv_rms[row] = scale;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) v[i] = factor[i] * rounded(norm.y, v[i] * scale);
    if (c >= width) continue;
    const Bf16Chunk chunk = Bf16Chunk::of(v);
    *reinterpret_cast<uint4*>(&rows[row][c]) = chunk.bits;
    if (blockIdx.x == 0) chunk.store(norm.y, row, c);
  }
}

}  // namespace moe::cuda::norm_of_few
