#pragma once
/// The two ways of attention: on the tensor cores, and with f32 arithmetic for any types, head sizes and alignments.

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

/// What the backward kernels need beside the operation: delta[t, head] = d_out_t . out_t.
const float* attention_delta(Context& context, Carver& carver, const AttentionBackward& op);

void simt_attention(Context& context, const Attention& op, const AttentionShape& shape);
void simt_attention(Context& context, const AttentionBackward& op, const AttentionShape& shape, const float* delta);

/// Whether the tensor cores can take these views: bf16, head sizes of whole 16-byte chunks up to 128, aligned rows.
bool tensor_attention_takes(const Attention& op);
bool tensor_attention_takes(const AttentionBackward& op);
void tensor_attention(Context& context, const Attention& op, const AttentionShape& shape);
void tensor_attention(Context& context, const AttentionBackward& op, const AttentionShape& shape, const float* delta);

}  // namespace moe::cuda
