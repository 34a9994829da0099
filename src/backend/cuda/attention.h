#pragma once
/// The three implementations of attention. attention_path.h chooses one for an operation.

#include "backend/cuda/context.h"
#include "ops/attention.h"

namespace moe::cuda {

constexpr int64_t kMostHeadSize = 256;

/// Sizes that all kernels need.
struct AttentionShape {
  int64_t tokens;
  int heads, kv_heads;
  int head_size;
  float scale;
  int64_t max_segment;
};

/// Data that the backward kernels need besides the operation: delta[t, head] = d_out_t . out_t.
const float* attention_delta(Context& context, Carver& carver, const AttentionBackward& op);

/// For each token the last token of its document, which is the last query that sees it as a key; -1 for padding.
const int* last_queries(Context& context, Carver& carver, const View& segment_start);

/// In f32 arithmetic, for any types, head sizes and alignments.
void simt_attention(Context& context, const Attention& op, const AttentionShape& shape);
void simt_attention(Context& context, const AttentionBackward& op, const AttentionShape& shape, const float* delta);

/// On the tensor cores of every supported GPU.
void tensor_attention(Context& context, const Attention& op, const AttentionShape& shape);
void tensor_attention(Context& context, const AttentionBackward& op, const AttentionShape& shape, const float* delta,
                      const int* last_query);

/// On Hopper's tensor cores. Its backward pass computes delta itself.
void hopper_attention(Context& context, const Attention& op, const AttentionShape& shape);
void hopper_attention(Context& context, const AttentionBackward& op, const AttentionShape& shape);

}  // namespace moe::cuda
