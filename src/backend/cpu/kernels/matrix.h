#pragma once
/// Kernels of matrix products and attention.

#include "backend/cpu/kernels/storage.h"
#include "base/bfloat16.h"

namespace moe::cpu {

struct Elements {
  const void* data;
  Storage type;
};

/// One operand of a product, as stored: rows of contiguous elements, `step` elements apart.
struct Operand {
  Elements elements;
  int64_t step;
  const int32_t* rows;  ///< index of the stored row for each row; null: row i itself
  /// true: the stored rows run along K (and their elements along M or N); false: the other way round
  bool rows_are_reduced;
};

/// c[m, n] = a b; with `accumulate`, added to c. Every element is a chain of FMAs along K, in K-blocks whose sums are
/// added in order. The blocks depend only on K.
struct Product {
  Operand a;
  Operand b;
  void* c;
  Storage c_type;
  int64_t c_step;
  int64_t m, n, k;
  bool accumulate;
};

/// c[m, n] = a b, where the lines of b run along K and are stored in blocks; with `accumulate`, added to c. Rows of a
/// are rounded to 8 bits, in groups of 32 elements: by at most 1/254 of the largest magnitude in the group. The
/// sum within a group is then exact, and the sum over groups is rounded in f32. A row with a number that is not finite
/// gives NaN.
struct BlockProduct {
  Operand a;  ///< its rows are not reduced
  const void* b;
  BlockType type;
  int64_t b_step;  ///< bytes from line to line
  void* c;
  Storage c_type;
  int64_t c_step;
  int64_t m, n, k;  ///< k: whole blocks, at most kLongestLine
  bool accumulate;
};
/// The longest lines whose product fits in the scratch.
constexpr int64_t kLongestLine = int64_t{1} << 17;

/// The queries, keys or values of one (document, key/value head): row i is i steps after `data`.
struct HeadRows {
  void* data;
  Storage type;
  int64_t step;
};

/// Where the keys and values of one sequence are in a cache of pages: position p is row p % tokens of page
/// table[p / tokens]. The steps count elements from one page to the next.
struct KeyPages {
  const int32_t* table = nullptr;  ///< null: no pages; all rows follow each other
  int64_t tokens = 0;
  int64_t k_step = 0, v_step = 0;
};

/// Queries [first, first + count) of one sequence for adjacent key/value heads, each with `group` query heads. The
/// sequence's keys begin at position 0. The columns of all heads are adjacent. q and out begin at query `first`, keys
/// and values at position 0, or with pages at page 0. lse may be null; otherwise lse[i * lse_step + query head].
struct AttentionTask {
  HeadRows q, k, v, out;
  float* lse;
  int64_t lse_step;
  int64_t first, count;
  int group;
  int head_size;
  float scale;
  KeyPages pages = {};
  int kv_heads = 1;  ///< at most kMostHeadsAtOnce
};
constexpr int kMostHeadsAtOnce = 16;

/// The gradients of one whole document, for one key/value head and its `group` query heads. All rows begin at position
/// 0.
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
  void (*block_product)(const BlockProduct& product, float* scratch);
  void (*attention)(const AttentionTask& task, float* scratch);
  void (*attention_backward)(const AttentionBackwardTask& task, float* scratch);
  /// Multiplies and adds f32 numbers (or pairs of bf16) in registers, `steps` times. Returns the number of
  /// multiplications and additions; 0 if products do not use pairs. Its rate is the upper limit for products.
  int64_t (*multiply_add)(int64_t steps, bool pairs);
};

/// The largest head size whose blocks of attention fit in the scratch.
constexpr int64_t kLargestHead = 4096;
/// The part of its worker's scratch that a kernel may use, in floats.
constexpr int64_t kScratchFloats = int64_t{4} << 20;

}  // namespace moe::cpu
