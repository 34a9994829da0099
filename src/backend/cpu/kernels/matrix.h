#pragma once
/// Kernels of matrix products and attention.

#include <cstdint>

#include "base/bfloat16.h"

namespace moe::cpu {

/// Elements stored as f32 or bf16.
struct Elements {
  const void* data;
  bool is_bf16;
};

/// One operand of a product, as it is stored: rows of contiguous elements, `step` elements apart.
struct Operand {
  Elements elements;
  int64_t step;
  const int32_t* rows;    ///< stored row of each row that is used, or null: row i itself
  bool rows_are_reduced;  ///< the stored rows run along K (and their elements along M or N), not the other way round
};

/// c[m, n] = a b, added to what c holds when `accumulate`.
/// Every element is a chain of FMAs along K, in K-blocks whose sums are added in order; the blocks depend on K alone.
struct Product {
  Operand a;
  Operand b;
  void* c;
  bool c_is_bf16;
  int64_t c_step;
  int64_t m, n, k;
  bool accumulate;
};

/// Where queries, keys and values of one (document, key/value head) stand: row i of each is i steps from `data`.
struct HeadRows {
  void* data;
  bool is_bf16;
  int64_t step;
};

/// Queries [first, first + count) of one sequence whose keys begin at its position 0, for the `group` query heads of
/// one key/value head (their columns are adjacent: group * head_size). q and out are at query `first`, keys and values
/// at position 0. lse may be null; else lse[i * lse_step + g].
struct AttentionTask {
  HeadRows q, k, v, out;
  float* lse;
  int64_t lse_step;
  int64_t first, count;
  int group;
  int head_size;
  float scale;
};

/// The gradients of one whole document, for one key/value head and its `group` query heads; all rows from position 0.
struct AttentionBackwardTask {
  HeadRows q, k, v, out, d_out, dq, dk, dv;
  const float* lse;
  int64_t lse_step;
  int64_t length;
  int group;
  int head_size;
  float scale;
};

struct MatrixKernels {
  /// `scratch`: kScratchFloats floats.
  void (*product)(const Product& product, float* scratch);
  void (*attention)(const AttentionTask& task, float* scratch);
  void (*attention_backward)(const AttentionBackwardTask& task, float* scratch);
  /// Multiplies and adds f32 numbers (or pairs of bf16) in registers, `steps` times; returns how many multiplications
  /// and additions that was, 0 where no product goes by pairs. What it takes is the ceiling of the product.
  int64_t (*multiply_add)(int64_t steps, bool pairs);
};

/// The largest head whose blocks of attention fit in the scratch.
constexpr int64_t kLargestHead = 4096;
/// What a kernel may use of its worker's scratch, in floats.
constexpr int64_t kScratchFloats = int64_t{4} << 20;

}  // namespace moe::cpu
